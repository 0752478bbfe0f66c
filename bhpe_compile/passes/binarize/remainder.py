"""Every layer that no other pass owns: stems, heads, core convolutions of shapes outside the five kinds.

They are not made binary. `--binarize` makes heads binary all the same (Hardtanh, binary layer, its bias,
BN where there is one, the scheme's activation instead of a ReLU). A stem never is: it reads three colours, whose
signs say next to nothing (none at all where all values are >= 0). A core convolution without a local residual of its
shape needs a scheme without residuals.
"""

from __future__ import annotations

import operator

import torch
from torch import fx, nn
from torch.nn import functional

from bhpe_compile.passes.binarize.core import core_refusal
from bhpe_compile.passes.binarize.decide import BinarizePass
from bhpe_compile.passes.binarize.rewrite import When, make_binary
from bhpe_compile.passes.binarize.roles import LAYERS, role_of
from bhpe_compile.passes.binarize.sites import Site

TOKENS = "it computes tokens of an attention, and signs would lose the scores that are compared; "

_SCORES = {torch.softmax, functional.softmax, torch.matmul, torch.bmm, operator.matmul}
_SCORE_METHODS = {"softmax", "matmul", "bmm"}


class Remainder(BinarizePass):
    """Names the layers that stay, with the reason; binarizes those the user forces."""

    name = "remainder"
    summary = "stems and heads: not binary unless forced by name"
    requires = (
        "plain decided",
        "down-scale decided",
        "down-sample decided",
        "fusion-up decided",
        "fusion-down decided",
        "branch decided",
        "shortcuts decided",
    )
    ensures = ("binary layers",)

    def scheme_refusal(self, graph: fx.GraphModule, site: Site) -> str | None:
        """Only core convolutions are binary without being asked for; stems not even then."""
        role = role_of(graph, site.path)
        if role in ("core", "stem"):  # what they cannot be, `shape_refusal` says
            return None
        why = TOKENS if among_tokens(graph, site.node) else ""
        return f"{role}: {why}not binary in any scheme (--binarize overrules)"

    def shape_refusal(self, graph: fx.GraphModule, site: Site) -> str | None:
        """Stems cannot, core convolutions need a scheme without residuals."""
        role = role_of(graph, site.path)
        if role == "stem":
            return "stem: never binary, it reads the picture: signs of three colours say too little"
        if role == "core" and isinstance(site.layer, nn.Conv2d):
            return self._core_refusal(graph, site, site.layer)
        return None

    def rewrite(self, graph: fx.GraphModule, site: Site) -> str:
        """As a core convolution without residual, or as a head."""
        core = role_of(graph, site.path) == "core"
        activation: When = "always" if core else "instead_of_relu"
        make_binary(graph, site, self.options, residual=False, activation=activation)
        return "core convolution without residual" if core else "forced by --binarize"

    def _core_refusal(self, graph: fx.GraphModule, site: Site, layer: nn.Conv2d) -> str | None:
        if self.options.scheme.local_residual:
            return (
                f"{layer.in_channels} -> {layer.out_channels} channels with stride {layer.stride[0]} "
                "is none of the five kinds: no local residual has this shape"
            )
        return core_refusal(graph, site, local_residual=False)


def among_tokens(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the linear layer that `node` calls has a LayerNorm, a softmax or a product of activations before or
    behind it, with no other layer between."""
    modules = dict(graph.named_modules())

    def called(one: fx.Node) -> nn.Module | None:
        return modules.get(str(one.target)) if one.op == "call_module" else None

    def told(one: fx.Node) -> bool:
        function = one.op == "call_function" and one.target in _SCORES
        method = one.op == "call_method" and one.target in _SCORE_METHODS
        return function or method or isinstance(called(one), nn.LayerNorm)

    if not isinstance(called(node), nn.Linear):
        return False
    for forwards in (False, True):
        waiting, seen = list(node.users if forwards else node.all_input_nodes), {node}
        while waiting:
            one = waiting.pop()
            if one in seen or isinstance(called(one), LAYERS):
                continue
            if told(one):
                return True
            seen.add(one)
            waiting += one.users if forwards else one.all_input_nodes
    return False
