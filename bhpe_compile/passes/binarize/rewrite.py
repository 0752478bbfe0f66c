"""The rewriting that all binarize passes share.

    x -> conv -> BN [-> ReLU]      becomes      a = Hardtanh(x)              P_clip
                                                c = BinaryConv2d(a)          P
                                                n = BN(c)                    its old path
                                                l = n + LocalResidual(a)     P_residual
                                                y = RPReLU(l)                P_activation

P is the path of the float convolution; weight and BN keep their values. Where the convolution ends a block,
y enters the block's sum and the ReLU behind that sum goes: the sum stays signed for the signs that read it.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Literal

from torch import fx, nn

from bhpe_compile.networks.layers.binary import (
    BinaryConv2d,
    BinaryConvTranspose2d,
    BinaryLayer,
    BinaryLinear,
    RPReLU,
)
from bhpe_compile.networks.layers.residual import LocalResidual
from bhpe_compile.passes.binarize.options import BinarizeOptions
from bhpe_compile.passes.binarize.scheme import Scheme
from bhpe_compile.passes.binarize.sites import FloatLayer, Site, called_module, is_relu, is_sum, only_user

When = Literal["always", "instead_of_relu"]


@dataclass(frozen=True)
class Around:
    """The nodes behind a layer: its BN, a ReLU right behind, a ReLU behind the sum with a shortcut."""

    norm: fx.Node | None
    relu: fx.Node | None
    sum_relu: fx.Node | None

    @classmethod
    def of(cls, graph: fx.GraphModule, node: fx.Node) -> Around:
        """Match what follows `node`."""
        norm = only_user(node)
        if norm is not None and type(called_module(graph, norm)) is not nn.BatchNorm2d:
            norm = None
        last = norm or node
        follower = only_user(last)
        if follower is None:
            return cls(norm, None, None)
        if is_relu(graph, follower):
            return cls(norm, follower, None)
        behind = only_user(follower) if is_sum(follower) else None
        return cls(norm, None, behind if behind is not None and is_relu(graph, behind) else None)


def refusal(layer: FloatLayer) -> str | None:
    """Why `layer` has no binary form, or None when it has."""
    if isinstance(layer, nn.Conv2d):
        return BinaryConv2d.refusal(layer)
    if isinstance(layer, nn.ConvTranspose2d):
        return BinaryConvTranspose2d.refusal(layer)
    return BinaryLinear.refusal(layer)


def to_binary(layer: FloatLayer, scheme: Scheme) -> BinaryLayer:
    """Return the binary layer that takes over the weight and bias of `layer`."""
    if isinstance(layer, nn.Conv2d):
        return BinaryConv2d.from_float(layer, scheme.learnable_threshold, scheme.surrogate)
    if isinstance(layer, nn.ConvTranspose2d):
        return BinaryConvTranspose2d.from_float(layer, scheme.learnable_threshold, scheme.surrogate)
    return BinaryLinear.from_float(layer, scheme.learnable_threshold, scheme.surrogate)


def make_binary(
    graph: fx.GraphModule, site: Site, options: BinarizeOptions, *, residual: bool, activation: When
) -> None:
    """Rewrite `site` in place as the module docstring shows.

    `residual` adds the local residual (its shapes must fit). `activation`: "always", with the ReLU behind the
    block's sum removed, or only "instead_of_relu" where a ReLU follows directly.
    """
    scheme, node, path = options.scheme, site.node, site.path
    around = Around.of(graph, node)
    x = node.all_input_nodes[0]
    binary = to_binary(site.layer, scheme)
    graph.set_submodule(path, binary.train(graph.training))
    with graph.graph.inserting_before(node):
        clip = _call(graph, f"{path}_clip", nn.Hardtanh(), x)
    node.args = (clip,)
    if around.relu is not None:
        bypass(graph, around.relu)
    if around.sum_relu is not None and activation == "always":
        bypass(graph, around.sum_relu)
    old = value = around.norm or node
    users = list(old.users)
    if residual:
        assert isinstance(site.layer, nn.Conv2d)  # only core convolutions have one
        short = LocalResidual(binary.in_channels, binary.out_channels, site.layer.stride[0])
        with graph.graph.inserting_after(value):
            tapped = _call(graph, f"{path}_residual", short, clip if options.residual_tap == "after" else x)
        with graph.graph.inserting_after(tapped):
            value = graph.graph.call_function(operator.add, (value, tapped))
    if activation == "always" or around.relu is not None:
        with graph.graph.inserting_after(value):
            value = _call(graph, f"{path}_activation", make_activation(scheme, binary), value)
    for user in users:
        user.replace_input_with(old, value)


def make_activation(scheme: Scheme, layer: BinaryLayer) -> nn.Module:
    """Return the activation that `scheme` puts behind `layer`, on its device and of its dtype."""
    if scheme.activation == "hardtanh":
        return nn.Hardtanh()
    return RPReLU(layer.out_channels, device=layer.weight.device, dtype=layer.weight.dtype)


def bypass(graph: fx.GraphModule, node: fx.Node) -> None:
    """Remove an elementwise node; its users read its input."""
    node.replace_all_uses_with(node.all_input_nodes[0])
    graph.graph.erase_node(node)


def _call(graph: fx.GraphModule, path: str, module: nn.Module, x: fx.Node) -> fx.Node:
    """Add `module` at `path` and a call of it on `x` at the current insertion point."""
    graph.add_submodule(path, module.train(graph.training))
    return graph.graph.call_module(path, (x,))
