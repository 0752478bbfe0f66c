"""Fold: the algebra of a binarized network, on its ONNX graph. Every pass leaves a file ONNX Runtime runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from bhpe_compile.passes.base import Pass
from bhpe_compile.passes.fold.clean_up import CleanUp
from bhpe_compile.passes.fold.drop_dead_hardtanh import DropDeadHardtanh
from bhpe_compile.passes.fold.explicit_padding import ExplicitPadding
from bhpe_compile.passes.fold.fold_batch_norm import FoldBatchNorm
from bhpe_compile.passes.fold.fold_shift import FoldShift
from bhpe_compile.passes.fold.fold_threshold import FoldThreshold
from bhpe_compile.passes.fold.half_residuals import HalfResiduals
from bhpe_compile.passes.fold.half_shortcuts import HalfShortcuts
from bhpe_compile.passes.fold.level_tables import LevelTables
from bhpe_compile.passes.fold.pack_weights import PackWeights
from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from bhpe_compile.passes.fold.quantize_linear import QuantizeLinear
from bhpe_compile.passes.fold.round_constants import RoundConstants
from bhpe_compile.passes.fold.whole_steps import WholeSteps
from bhpe_compile.passes.fold.write_out_means import WriteOutMeans

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bhpe_compile.networks.layers.rounding import Ranges


def fold_passes(
    ranges: Ranges | None = None,
    half: bool = False,
    wide: Mapping[str, float] | None = None,
    imported: bool = False,
) -> list[Pass[ir.Model]]:
    """The passes of this storey, in order. What a layer multiplies and adds is computed here once, and copied from then
    on: ONNX Runtime and every kernel read the same numbers.

    ranges: calibrated ranges of what convolutions that are not binary read; None leaves those layers float.
    half: keep residuals in float16, but for the values that `wide` names.
    imported: nobody trained the network to what it rounds, so that more of it may be.
    """
    rounding: list[Pass[ir.Model]] = []
    if ranges is not None:
        rounding += [QuantizeLinear(), QuantizeDense(ranges)]
        if imported:
            rounding += [LevelTables(ranges), WholeSteps(), HalfShortcuts()]
    if half:
        rounding.append(HalfResiduals(wide))
    algebra = (ExplicitPadding(), DropDeadHardtanh(), FoldBatchNorm(), FoldShift(), WriteOutMeans())
    return [*algebra, RoundConstants(), FoldThreshold(), PackWeights(), *rounding, CleanUp()]
