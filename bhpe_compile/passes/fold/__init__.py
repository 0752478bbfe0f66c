"""Fold: the algebra of a binarized network, on its ONNX graph. Every pass leaves a file ONNX Runtime runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from bhpe_compile.passes.base import Pass
from bhpe_compile.passes.fold.clean_up import CleanUp
from bhpe_compile.passes.fold.drop_dead_hardtanh import DropDeadHardtanh
from bhpe_compile.passes.fold.explicit_padding import ExplicitPadding
from bhpe_compile.passes.fold.fold_batch_norm import FoldBatchNorm
from bhpe_compile.passes.fold.fold_constant_features import FoldConstantFeatures
from bhpe_compile.passes.fold.fold_linear import FoldLinear
from bhpe_compile.passes.fold.fold_lone_softmax import FoldLoneSoftmax
from bhpe_compile.passes.fold.fold_shift import FoldShift
from bhpe_compile.passes.fold.fold_threshold import FoldThreshold
from bhpe_compile.passes.fold.half_residuals import HalfResiduals
from bhpe_compile.passes.fold.half_shortcuts import HalfShortcuts
from bhpe_compile.passes.fold.level_tables import LevelTables
from bhpe_compile.passes.fold.mean_of_cells import MeanOfCells
from bhpe_compile.passes.fold.pack_weights import PackWeights
from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from bhpe_compile.passes.fold.quantize_linear import QuantizeLinear
from bhpe_compile.passes.fold.round_constants import RoundConstants
from bhpe_compile.passes.fold.whole_steps import WholeSteps
from bhpe_compile.passes.fold.write_out_functions import WriteOutFunctions
from bhpe_compile.passes.fold.write_out_means import WriteOutMeans

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bhpe_compile.exchange.scales import Steps
    from bhpe_compile.networks.layers.rounding import Ranges


def fold_passes(
    ranges: Ranges | None = None,
    half: bool = False,
    wide: Mapping[str, float] | None = None,
    steps: Steps | None = None,
    imported: bool = False,
    pair_safe: bool = False,
) -> list[Pass[ir.Model]]:
    """The passes of this storey, in order. What a layer multiplies and adds is computed here once, and copied from then
    on: ONNX Runtime and every kernel read the same numbers.

    ranges: calibrated ranges of what convolutions that are not binary read; None leaves those layers float.
    steps: those of the weights that a file has in 8 bits already; layers without them stay float then. None: ours.
    half: keep residuals in float16, but for the values that `wide` names.
    imported: nobody trained the network to what it rounds, so that more of it may be.
    pair_safe: steps of weights are so wide that pairs of them can be multiplied as bytes.
    """
    rounding: list[Pass[ir.Model]] = []
    if ranges is not None:
        rounding += [
            QuantizeLinear(steps, pair_safe),
            MeanOfCells(imported),
            QuantizeDense(ranges, steps, pair_safe),
        ]
        if imported and steps is None:  # a file's own scales leave no choice
            rounding += [LevelTables(ranges), WholeSteps(), HalfShortcuts()]
        if imported:
            rounding.append(WriteOutFunctions())
    if half:
        rounding.append(HalfResiduals(wide))
    constants = (FoldLoneSoftmax(), FoldConstantFeatures())
    algebra = (
        ExplicitPadding(),
        DropDeadHardtanh(),
        FoldBatchNorm(),
        FoldLinear(),
        FoldShift(),
        WriteOutMeans(),
    )
    exact = (RoundConstants(), FoldThreshold(), PackWeights())
    return [*constants, *algebra, *exact, *rounding, CleanUp()]
