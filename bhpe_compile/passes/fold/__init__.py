"""Fold: the algebra of a binarized network, on its ONNX graph. Every pass leaves a file ONNX Runtime runs."""

from __future__ import annotations

import onnx_ir as ir

from bhpe_compile.passes.base import Pass
from bhpe_compile.passes.fold.clean_up import CleanUp
from bhpe_compile.passes.fold.drop_dead_hardtanh import DropDeadHardtanh
from bhpe_compile.passes.fold.explicit_padding import ExplicitPadding
from bhpe_compile.passes.fold.fold_batch_norm import FoldBatchNorm
from bhpe_compile.passes.fold.fold_threshold import FoldThreshold
from bhpe_compile.passes.fold.pack_weights import PackWeights


def fold_passes() -> list[Pass[ir.Model]]:
    """The passes of this storey, in order."""
    return [ExplicitPadding(), DropDeadHardtanh(), FoldBatchNorm(), FoldThreshold(), PackWeights(), CleanUp()]
