"""A trainable network that computes with what its compiled form rounds.

    conv(x), linear(x)   ->   the same with 8-bit inputs and weights (RoundedConv2d, ...)
    x                    ->   Half(x)       for the readers of a feature map that is kept

This is what the passes quantize-dense and half-residuals do to the ONNX graph, said in torch: signs behind a rounding
come out as they will, so a network trained so loses little when it is compiled (docs/model-card.md says how much).
Which maps are kept is written in `passes/half_maps.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import fx, nn

from bhpe_compile.networks.layers.binary import BinaryConv2d, BinaryConvTranspose2d, BinaryLayer, RPReLU
from bhpe_compile.networks.layers.rounding import (
    Half,
    Ranges,
    RoundedInput,
    RoundedLinear,
    rounded_form,
)
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.binarize.sites import called_module, float_sites, is_relu, is_sum
from bhpe_compile.passes.half_maps import Kind, rounded_uses

_BINARY = (BinaryConv2d, BinaryConvTranspose2d)

KINDS: dict[type[nn.Module] | tuple[type[nn.Module], ...], Kind] = {
    BinaryLayer: "binary",
    (nn.Conv2d, nn.ConvTranspose2d): "dense",
    nn.BatchNorm2d: "norm",
    RPReLU: "rprelu",
    nn.MaxPool2d: "pool",
    Half: "half",
}


class RoundStorage(Pass[fx.GraphModule]):
    """8-bit layers, of those that are not binary, where `dense`, float16 feature maps where `half`.

    `ranges` are those of the inputs of convolutions, by path; the others take the range of every batch. `wide` names
    the nodes of feature maps that stay float32.
    """

    name = "round-storage"
    summary = "computes with the rounding of a compiled network"

    def __init__(
        self,
        ranges: Ranges | None = None,
        *,
        dense: bool = True,
        half: bool = True,
        wide: Collection[str] = (),
    ) -> None:
        self.ranges, self.dense, self.half, self.wide = ranges or {}, dense, half, wide

    def call(self, graph: fx.GraphModule) -> PassResult[fx.GraphModule]:
        """Rewrite in place; every layer and every feature map that is rounded gets one note."""
        notes = self._halve(graph) if self.half else []
        notes += self._quantize(graph) if self.dense else []
        if notes:
            graph.graph.lint()
            graph.recompile()
        return PassResult(graph, bool(notes), tuple(notes))

    def _quantize(self, graph: fx.GraphModule) -> list[Note]:
        notes = []
        for site in self.visit(float_sites(graph)):
            layer = rounded_form(site.layer)
            linear = isinstance(layer, RoundedLinear)
            if isinstance(layer, RoundedInput):
                layer.span = self.ranges.get(site.path)
            graph.set_submodule(site.path, layer)
            notes.append(self.applied(site.path, "8-bit weights" if linear else "8-bit weights and input"))
        return notes

    def _halve(self, graph: fx.GraphModule) -> list[Note]:
        notes = []
        for node in self.visit(list(graph.graph.nodes)):
            readers, _ = rounded_uses(_Maps(graph), node)
            if not readers or node.name in self.wide:
                continue
            name = f"{node.name}_half"
            graph.add_submodule(name, Half().train(graph.training))
            _keep_signs(graph, node, readers)
            with graph.graph.inserting_after(node):
                half = graph.graph.call_module(name, (node,))
            for reader in readers:
                reader.replace_input_with(node, half)
            notes.append(self.applied(node.name, f"read as float16 by {', '.join(r.name for r in readers)}"))
        return notes


def kept_maps(graph: fx.GraphModule) -> tuple[str, ...]:
    """The nodes of the feature maps that are kept for later, in float16 where they fit."""
    maps = _Maps(graph)
    return tuple(node.name for node in graph.graph.nodes if rounded_uses(maps, node)[0])


def _keep_signs(graph: fx.GraphModule, node: fx.Node, readers: Sequence[fx.Node]) -> None:
    """Signs behind a Hardtanh among `readers`, which will read `node` rounded, read it through one of their own."""
    for clip in readers:
        for sign in [sign for sign in clip.users if _changes_nothing(graph, clip, sign)]:
            with graph.graph.inserting_after(node):
                sign.replace_input_with(clip, graph.graph.node_copy(clip))


def _signs_and_others(graph: fx.GraphModule, node: fx.Node) -> tuple[list[fx.Node], list[fx.Node]]:
    """The binary convolutions that take the signs of `node`, past a Hardtanh too, and its other readers."""
    signs: list[fx.Node] = []
    others: list[fx.Node] = []
    for user in node.users:
        if isinstance(called_module(graph, user), _BINARY):
            if not _changes_nothing(graph, node, user):
                signs.append(user)
        elif isinstance(called_module(graph, user), nn.Hardtanh):
            past = [sign for sign in user.users if _changes_nothing(graph, user, sign)]
            signs += past
            if len(past) < len(user.users):
                others.append(user)
        else:
            others.append(user)
    return signs, others


def _changes_nothing(graph: fx.GraphModule, clip: fx.Node, sign: fx.Node) -> bool:
    """Whether `clip` is a Hardtanh and `sign` takes signs from it whose thresholds lie inside (drop-dead-hardtanh)."""
    bounds, layer = called_module(graph, clip), called_module(graph, sign)
    if not isinstance(bounds, nn.Hardtanh) or not isinstance(layer, _BINARY):
        return False
    return bool(((layer.threshold > bounds.min_val) & (layer.threshold <= bounds.max_val)).all())


class _Maps:
    """A torch.fx graph of layers, as `half_maps` asks about it. A use is the node that reads."""

    def __init__(self, graph: fx.GraphModule) -> None:
        self._graph = graph

    def uses(self, value: fx.Node) -> tuple[list[fx.Node], list[fx.Node]]:
        if any(user.op == "output" for user in value.users):
            return [], []
        return _signs_and_others(self._graph, value)

    def kind(self, use: fx.Node) -> Kind:
        if is_sum(use):
            return "sum"
        module = called_module(self._graph, use)
        if is_relu(self._graph, use) and not isinstance(
            module, nn.Hardtanh
        ):  # a bound above is a node of its own
            return "norm"
        return next((kind for types, kind in KINDS.items() if isinstance(module, types)), "other")

    def beside(self, use: fx.Node, value: fx.Node) -> list[fx.Node]:
        return [side for side in use.all_input_nodes if side is not value]

    def origin(self, value: fx.Node) -> tuple[Kind, list[fx.Node]]:
        return self.kind(value), value.all_input_nodes
