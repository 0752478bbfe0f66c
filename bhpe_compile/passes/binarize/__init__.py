"""torch.fx passes that decide which layers become binary and keep the network trainable.

    trace -> plain, down-scale, down-sample, fusion-up, fusion-down, branch, shortcuts, remainder
          -> free-signs

Every float layer is named in exactly one note, applied or refused with its reason.
"""

from __future__ import annotations

import copy

from torch import fx, nn

from bhpe_compile.passes.base import Note, Observer, Pass, PassManager
from bhpe_compile.passes.binarize.branch import Branch
from bhpe_compile.passes.binarize.decide import BinarizePass
from bhpe_compile.passes.binarize.down_sample import DownSample
from bhpe_compile.passes.binarize.down_scale import DownScale
from bhpe_compile.passes.binarize.free_signs import FreeSigns
from bhpe_compile.passes.binarize.freeze import freeze
from bhpe_compile.passes.binarize.fusion_down import FusionDown
from bhpe_compile.passes.binarize.fusion_up import FusionUp
from bhpe_compile.passes.binarize.options import BinarizeOptions, ResidualTap
from bhpe_compile.passes.binarize.plain import Plain
from bhpe_compile.passes.binarize.remainder import Remainder
from bhpe_compile.passes.binarize.round_storage import RoundStorage
from bhpe_compile.passes.binarize.scheme import BIDRN, BNN, REACTNET, SCHEMES, Scheme, get_scheme
from bhpe_compile.passes.binarize.shortcuts import Shortcuts
from bhpe_compile.passes.binarize.sites import float_sites
from bhpe_compile.passes.binarize.trace import trace

__all__ = [
    "BIDRN",
    "BINARIZE_PASSES",
    "BNN",
    "REACTNET",
    "SCHEMES",
    "BinarizeOptions",
    "ResidualTap",
    "RoundStorage",
    "Scheme",
    "binarize",
    "binarize_passes",
    "freeze",
    "get_scheme",
    "trace",
]

_LAYER_PASSES: tuple[type[BinarizePass], ...] = (
    Plain,
    DownScale,
    DownSample,
    FusionUp,
    FusionDown,
    Branch,
    Shortcuts,
    Remainder,
)

BINARIZE_PASSES: tuple[type[Pass[fx.GraphModule]], ...] = (*_LAYER_PASSES, FreeSigns)
"""The passes in the order in which they run."""


def binarize_passes(options: BinarizeOptions) -> list[Pass[fx.GraphModule]]:
    """Return the passes of `BINARIZE_PASSES` for `options`, ready to run."""
    return [*(one(options) for one in _LAYER_PASSES), FreeSigns()]


def binarize(
    model: nn.Module, options: BinarizeOptions, observer: Observer[fx.GraphModule] | None = None
) -> tuple[fx.GraphModule, tuple[Note, ...]]:
    """Return a binary, trainable copy of `model` as a graph, and every decision taken.

    `model` may be a traced graph already; it is not changed. Weights and batch normalisation keep their
    values. Raises UsageError for a glob in `options` that matches no layer, InputError where `model` cannot
    be traced.
    """
    graph = copy.deepcopy(model)
    graph = graph if isinstance(graph, fx.GraphModule) else trace(graph)
    options.check_globs(site.path for site in float_sites(graph))
    manager = PassManager(binarize_passes(options))
    graph = manager.run(graph, observer)
    graph.delete_all_unused_submodules()
    return graph, manager.notes
