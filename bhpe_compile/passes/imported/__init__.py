"""Imported: an ONNX graph of anybody's as the folds and the lowering expect one.

Every pass leaves a graph that computes the same in ONNX Runtime.
"""

from __future__ import annotations

import onnx_ir as ir

from bhpe_compile.passes.base import Pass
from bhpe_compile.passes.imported.binary_layers import BinaryLayers
from bhpe_compile.passes.imported.flat_windows import FlatWindows
from bhpe_compile.passes.imported.join_affines import JoinAffines
from bhpe_compile.passes.imported.linear_layers import LinearLayers
from bhpe_compile.passes.imported.name_layers import NameLayers
from bhpe_compile.passes.imported.own_scales import OwnScales
from bhpe_compile.passes.imported.plain_forms import PlainForms
from bhpe_compile.passes.imported.spread_layers import SpreadLayers


def imported_passes(
    int8: bool = True, binary: bool = False, keep_float: tuple[str, ...] = (), scaled: bool = False
) -> list[Pass[ir.Model]]:
    """The passes of this storey, in order.

    int8: layers that the file has in 8 bits compute in 8 bits. binary: core convolutions become binary, but for those
    whose names match `keep_float`. scaled: the file has scales of its own, which stand between layers and are kept.
    """
    passes: list[Pass[ir.Model]] = [
        OwnScales(int8),
        PlainForms(),
        FlatWindows(),
        LinearLayers(),
        SpreadLayers(),
    ]
    joined = [] if scaled else [JoinAffines()]
    return [*passes, NameLayers(), *joined, *([BinaryLayers(keep_float)] if binary else [])]
