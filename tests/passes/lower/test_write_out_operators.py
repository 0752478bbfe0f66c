"""Operators that no kernel takes in: they compile, and every bit is what ONNX Runtime computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from bhpe_compile.passes.lower.write_out_operators import WRITTEN, WriteOutOperators
from tests.kept import KeptWorkers
from tests.passes.lower.graphs import Builder, text
from tests.passes.lower.test_generate import TARGETS, compile_and_run, reference


def lonely() -> ir.Model:
    """An activation of the input, one behind a bare Conv, an affine and a pool that nothing takes in."""
    b = Builder(5)
    x = b.input("image", (1, 8, 6, 4))
    first = b.rprelu(x, "first", 8, slope=0.5, shift=0.375)
    weight = b.constant("bare.weight", b.normal(16, 8, 3, 3, std=0.1))
    bare = b.add("Conv", [first, weight], "bare", kernel_shape=[3, 3], pads=[1] * 4)
    second = b.rprelu(bare, "second", 16, slope=1.25, shift=-0.5)
    constants = [b.constant(f"affine.{role}", b.normal(16, 1, 1)) for role in ("scale", "bias")]
    affine = b.add("ChannelAffine", [second, *constants], "affine", "bhpe")
    model = b.build(first, b.pool2x2(second, "pool"), affine)
    QuantizeDense({"bare": (-4.0, 4.0)})(model)
    return model


@pytest.mark.parametrize("target", TARGETS)
def test_every_bit(tmp_path: Path, target: str, kept_workers: KeptWorkers) -> None:
    model = lonely()
    image = np.random.default_rng(2).standard_normal((1, 8, 6, 4)).astype(np.float32)
    expected = reference(model, image)
    got = compile_and_run(model, target, tmp_path, image, kept_workers)
    assert len(got) == 3
    for (name, value), want in zip(got.items(), expected, strict=True):
        np.testing.assert_array_equal(value, want, err_msg=name)


def test_what_is_written() -> None:
    model = lonely()
    result = WriteOutOperators()(model)
    reasons = {note.site: note.reason for note in result.notes}
    activation = "no kernel takes it in: Sub, Greater, Mul, Where, Add"
    assert reasons == {
        "first": activation,
        "second": activation,
        "pool": "no kernel takes it in: Slice, Add, Mul",
        "affine": "no kernel takes it in: Mul, Add",
    }
    assert not {node.op_type for node in model.graph} & set(WRITTEN)
    names = [node.name for node in model.graph]
    assert len(set(names)) == len(names)
    assert {"first", "second", "pool", "affine"} <= set(names)  # the last operation has the name
    assert all(name.partition(".")[0] in {*reasons, "bare"} for name in names if name is not None)
    assert None not in names
    after = text(model)
    assert WriteOutOperators()(model).modified is False
    assert text(model) == after
