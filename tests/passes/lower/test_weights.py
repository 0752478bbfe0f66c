"""Weights leave the graph before code is made, and come back as bytes of the program."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from bhpe_compile.artifact.program import Program
from bhpe_compile.errors import BhpeError
from bhpe_compile.networks.interface import UNDESCRIBED
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower import lower_passes
from bhpe_compile.passes.lower.describe import describe
from bhpe_compile.passes.lower.weights import Constant, KernelCall, put_weights, take_weights
from bhpe_compile.targets.isa import AVX512
from tests.passes.lower.graphs import Builder, run, small_network


def bare_bytes(model: ir.Model) -> bytes:
    return bytes(ir.to_proto(take_weights(model, AVX512).model).SerializeToString(deterministic=True))


def test_a_network_that_was_trained_again_is_the_same_request() -> None:
    one, two = (run(small_network(seed=seed), *lower_passes()) for seed in (0, 1))
    assert bare_bytes(one) == bare_bytes(two)
    first, second = take_weights(one, AVX512), take_weights(two, AVX512)
    assert (first.calls, first.kernels) == (second.calls, second.kernels)
    assert first.constants.keys() == second.constants.keys()
    assert first.constants != second.constants


def test_the_graph_is_left_as_it_is() -> None:
    model = run(small_network(), *lower_passes())
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    take_weights(model, AVX512)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_what_is_to_be_known_of_a_kernel_stands_in_its_call() -> None:
    """Of every kind: a pool is not parallel, a convolution is; and the nodes keep nothing but their place."""
    model = run(small_network(), *lower_passes())
    nodes = [node for node in model.graph if g.is_kernel(node)]
    bare = take_weights(model, AVX512)
    for node, call in zip(nodes, bare.calls, strict=True):
        kernel = describe(node)
        assert call == KernelCall(
            kernel.symbol(),
            node.op_type,
            g.text(node, "layer"),
            tuple(p.role for p in kernel.parameters(AVX512)),
            kernel.parallel,
            tuple((p.shape, p.dtype) for p in kernel.parameters(AVX512) if p.is_output),
        )
    assert any(call.parallel for call in bare.calls)
    left = [node for node in bare.model.graph if g.is_kernel(node)]
    assert all(not node.attributes for node in left)
    assert len({node.name for node in left}) == len(left)
    assert {kernel.symbol() for kernel in bare.kernels} == {call.symbol for call in bare.calls}
    assert not bare.model.graph.initializers


def test_equal_constants_are_one_and_no_input_is_taken_for_one() -> None:
    b = Builder()
    x = b.input("constant_1", (1, 8, 4, 4))
    y = b.binary_conv(x, "one", 8, 8)
    model = run(b.build(b.binary_conv(y, "two", 8, 8)), *lower_passes())
    bare = take_weights(model, AVX512)
    assert len(set(bare.constants.values())) == len(bare.constants)
    assert not any(name.startswith("constant_1") and name == "constant_1" for name in bare.constants)
    assert [value.name for value in bare.model.graph.inputs] == ["constant_1", *bare.constants]


def test_weights_lie_as_the_layout_says() -> None:
    """Each at a multiple of 64 bytes, where the plan of the memory put it; a program without weights has a block."""
    program = Program((), (), (), (), 0, 0, b"", (), UNDESCRIBED)
    layout = [Constant("b"), Constant("", b"glue"), Constant("a"), Constant("b")]
    image = put_weights(program, layout, {"a": b"x" * 65, "b": b"y"}).weights
    assert image == b"y".ljust(64, b"\0") + b"glue".ljust(64, b"\0") + (b"x" * 65).ljust(
        128, b"\0"
    ) + b"y".ljust(64, b"\0")
    assert put_weights(program, [], {}) == replace(program, weights=bytes(64))


@pytest.mark.parametrize("kind", ["DenseConv2d", "DenseConvTranspose2d"])
@pytest.mark.parametrize(("value", "exact"), [(0.1, False), (0.0999755859375, True)])
def test_weights_that_are_no_float16_are_a_defect_of_ours(value: float, exact: bool, kind: str) -> None:
    b = Builder()
    x = b.input("image", (1, 8, 4, 4))
    if kind == "DenseConv2d":
        y = b.dense_conv(x, "layer.name", 8, 8)
    else:
        zeros = b.constant("layer.weight", np.zeros((8, 8, 4, 4), np.float32))
        y = b.add("ConvTranspose", [x, zeros], "layer.name", strides=[2, 2], pads=[1] * 4)
    model = run(b.build(y), *lower_passes())
    weight = g.operand(next(n for n in model.graph if g.is_kernel(n, kind)), "weight")
    assert weight is not None
    weight.const_value = ir.tensor(np.full(g.shape_of(weight), value, np.float32))
    if exact:
        assert take_weights(model, AVX512).constants
        return
    with pytest.raises(
        BhpeError, match=r"^internal: layer.name: weights changed after they were rounded to float16$"
    ):
        take_weights(model, AVX512)
