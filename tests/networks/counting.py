"""Counting a network by its parts, for golden figures: on torch's meta device, so that nothing is allocated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bhpe_compile.networks.layers.residual import residual_kind
from bhpe_compile.passes.binarize.trace import trace

KINDS = ("plain", "fusion_up", "fusion_down", "down_scale", "down_sample")

_KIND = {
    (1, "same"): "plain",
    (1, "repeat"): "fusion_up",
    (1, "group_mean"): "fusion_down",
    (2, "same"): "down_scale",
    (2, "repeat"): "down_sample",
}


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` makes, without memory for its weights."""
    with torch.device("meta"):
        return (
            build().eval().requires_grad_(False)
        )  # torch's counter cannot pass a bare parameter on otherwise


def parameters(model: nn.Module) -> int:
    """Weights and biases."""
    return sum(parameter.numel() for parameter in model.parameters())


def keys(model: nn.Module, prefix: str = "") -> int:
    """Entries of the state dict below `prefix`."""
    return sum(name.startswith(prefix) for name in model.state_dict())


def run_on_meta(model: nn.Module, *inputs: tuple[int, ...]) -> tuple[int, Any]:
    """Multiply-accumulates for inputs of these shapes, and the shapes of the outputs (by name where they have one).

    Convolutions, linear layers and matrix products are counted.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        out = model(*(torch.empty(shape, device="meta") for shape in inputs))
    shapes = {n: tuple(x.shape) for n, x in out.items()} if isinstance(out, dict) else tuple(out.shape)
    return counter.get_total_flops() // 2, shapes


def macs_by_layer(model: nn.Module, *inputs: tuple[int, ...]) -> dict[str, int]:
    """Multiply-accumulates of each convolution and linear layer that is called, all of its calls together."""
    found: Counter[str] = Counter()

    def count(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            outputs = layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features
            found[name] += out.numel() // outputs * layer.weight.numel()

        return hook

    layers = [(n, layer) for n, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(count(name)) for name, layer in layers]
    with torch.no_grad():
        model(*(torch.empty(shape, device="meta") for shape in inputs))
    for handle in handles:
        handle.remove()
    return dict(found)


def kinds(layers: Iterable[nn.Module]) -> dict[str, tuple[int, int]]:
    """Number and weights of the convolutions by BiDRB kind; "none" has those without one."""
    counts: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            kind = residual_kind(layer.in_channels, layer.out_channels) or ""
            name = _KIND.get((layer.stride[0], kind), "none") if layer.groups == 1 else "depthwise"
            counts[name] += 1
            weights[name] += layer.weight.numel()
    return {name: (counts[name], weights[name]) for name in counts}


def called(model: nn.Module) -> list[nn.Module]:
    """The modules that a forward pass calls, each once."""
    graph = trace(model)
    names = {str(node.target): None for node in graph.graph.nodes if node.op == "call_module"}
    return [graph.get_submodule(name) for name in names]


def assert_traces_like_eager(model: nn.Module, *inputs: Tensor) -> None:
    """The traced graph gives the same bits as `model`, for this batch and for its first picture alone."""
    graph = trace(model)
    with torch.no_grad():
        for given in (inputs, tuple(x[:1] for x in inputs)):
            want, got = model(*given), graph(*given)
            assert list(got) == list(want)
            assert all(torch.equal(got[name], want[name]) for name in want)
