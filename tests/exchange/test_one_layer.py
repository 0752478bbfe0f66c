"""torch against ONNX Runtime: one binary layer bit by bit, the network before binarization within rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from bhpe_compile.check.verify.compare import beyond, differences
from bhpe_compile.exchange.export import export
from bhpe_compile.exchange.functions import DOMAIN, OPERATORS, attach_bodies
from bhpe_compile.exchange.nodes import array_of
from bhpe_compile.networks.hand4whole.description import NETWORK
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import OUTPUTS, Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY
from bhpe_compile.networks.layers.binary import BinaryConv2d, BinaryConvTranspose2d, BinaryLayer, BinaryLinear
from bhpe_compile.passes.binarize import freeze, trace
from tests.passes.fold.graphs import run

Run = tuple[ir.Model, dict[str, NDArray[Any]], NDArray[Any]]
"""A model, what torch computes, the picture."""


class One(nn.Module):
    """A layer as a network with one output."""

    def __init__(self, layer: BinaryLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"y": self.layer(image)}


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


LAYERS: dict[str, tuple[Callable[[], BinaryLayer], tuple[int, ...]]] = {
    "conv k1": (lambda: BinaryConv2d(normal(8, 40, 1, 1), normal(8), 1, 0, True), (1, 40, 6, 5)),
    "conv k3 s2": (lambda: BinaryConv2d(normal(8, 40, 3, 3), normal(8), 2, 1, True), (1, 40, 6, 5)),
    "up k4 s2 p1": (lambda: BinaryConvTranspose2d(normal(40, 8, 4, 4), None, 2, 1), (1, 40, 6, 5)),
    "up k2 s2 p0": (lambda: BinaryConvTranspose2d(normal(40, 8, 2, 2), None, 2, 0), (1, 40, 6, 5)),
    "up k3 s1 p1": (lambda: BinaryConvTranspose2d(normal(40, 8, 3, 3), None, 1, 1), (1, 40, 6, 5)),
    "linear": (lambda: BinaryLinear(normal(8, 40), normal(8)), (1, 40)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_one_layer_is_equal_bit_by_bit(name: str) -> None:
    """An integer, one float32 multiplication, one float32 addition: nothing depends on an order of sums."""
    make, shape = LAYERS[name]
    layer = make()
    with torch.no_grad():
        layer.threshold.copy_(normal(40))
    frozen = freeze(trace(One(layer).eval()))
    x = normal(*shape)
    edge = layer.threshold.detach().view(-1, *[1] * (len(shape) - 2)).expand(x.shape)
    x = torch.where(normal(*shape).abs() < 0.3, edge, x)  # a quarter exactly on the threshold
    with torch.no_grad():
        want = frozen(x)["y"].numpy()
    np.testing.assert_array_equal(run(export(frozen, {"image": x}), x.numpy())[0], want)


@pytest.fixture(scope="module")
def full_precision() -> Run:
    frozen = freeze(trace(initialise(Hand4Whole(TINY), 0).eval()))
    image = torch.rand(1, 3, 512, 384, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        want = {name: value.numpy() for name, value in frozen(image).items()}
    return export(frozen, {"image": image}), want, image.numpy()


def test_the_full_precision_network_is_close(
    full_precision: Run,
) -> None:
    model, want, image = full_precision
    assert [o.name for o in model.graph.outputs] == list(want) == list(OUTPUTS)
    got = dict(zip(OUTPUTS, run(model, image), strict=True))
    interface = NETWORK.interface("tiny")
    assert (
        beyond(interface, differences(interface, got, want)) == {}
    )  # no sign to flip: rounding of float32 sums only


def test_its_weights_are_float16_numbers(
    full_precision: Run,
) -> None:
    layers = [n for n in full_precision[0].graph if n.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    weights = [w for n in layers if (w := array_of(n.inputs[1])) is not None]
    assert len(weights) > 30
    for weight in weights:
        assert weight.dtype == np.float32
        np.testing.assert_array_equal(weight, weight.astype(np.float16).astype(np.float32))


@given(
    st.sets(st.sampled_from(OPERATORS), min_size=1), st.sets(st.sampled_from(OPERATORS)), st.integers(1, 3)
)
def test_bodies_are_exactly_those_in_use(first: set[str], second: set[str], copies: int) -> None:
    """However often an operator occurs, and whatever was there before."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, 2]))
    model = ir.Model(ir.Graph([x], [], nodes=[], opset_imports={"": 18}), ir_version=10)
    for used in (first, second):
        model.graph.remove(list(model.graph))
        model.graph.extend([ir.Node(DOMAIN, name, [x]) for name in used for _ in range(copies)])
        attach_bodies(model)
        assert {key[:2] for key in model.functions} == {(DOMAIN, name) for name in used}
