from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.exchange.nodes import integers
from bhpe_compile.passes.fold.explicit_padding import ExplicitPadding
from tests.passes.fold.graphs import Builder, node_named, op_types, run, text


def framed(
    amounts: list[int], *, fill: float | None = None, mode: str = "constant", binary: bool = False
) -> ir.Model:
    """Pad, then a 3x3 convolution."""
    b = Builder(2)
    x = b.input("x", (1, 4, 6, 5))
    inputs: list[ir.Value | None] = [x, b.constant("amounts", np.array(amounts, np.int64))]
    if fill is not None:
        inputs.append(b.constant("fill", np.array(fill, np.float32)))
    shape = [s + amounts[i] + amounts[i + 4] for i, s in enumerate((1, 4, 6, 5))]
    y = b.add("Pad", inputs, "pad", shape, mode=mode)
    return b.build(b.binary("BinaryConv2d", y, "conv", 4) if binary else b.dense(y, "conv", 4))


def test_a_frame_of_zeros_becomes_pads() -> None:
    model = framed([0, 0, 1, 2, 0, 0, 3, 4])
    result = ExplicitPadding()(model)
    assert result.modified
    assert op_types(model) == ["Conv"]
    assert integers(node_named(model, "conv"), "pads", ()) == (2, 3, 4, 5)
    assert [note.reason for note in result.notes] == ["the Pad in front joined its pads"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (framed([0, 0, 1, 1, 0, 0, 1, 1], fill=1.0), "not a constant frame of zeros"),
        (framed([0, 0, 1, 1, 0, 0, 1, 1], mode="reflect"), "not a constant frame of zeros"),
        (framed([0, 0, 0, -1, 0, 0, 0, 0]), "not a constant frame of zeros"),
        (framed([0, 1, 0, 0, 0, 0, 0, 0]), "pads channels"),
        (framed([0, 0, 1, 1, 0, 0, 1, 1], binary=True), "a padded 0 has a sign"),
    ],
)
def test_other_frames_stay(model: ir.Model, reason: str) -> None:
    before = text(model)
    result = ExplicitPadding()(model)
    assert not result.modified
    assert text(model) == before
    assert len(result.notes) == 1
    assert reason in result.notes[0].reason
    assert (result.notes[0].site, result.notes[0].applied) == ("conv", False)


def test_a_frame_others_read_stays() -> None:
    model = framed([0, 0, 1, 1, 0, 0, 1, 1])
    padded = node_named(model, "pad").outputs[0]
    model.graph.outputs.append(padded)
    result = ExplicitPadding()(model)
    assert not result.modified
    assert "other readers" in result.notes[0].reason


def test_why_a_frame_in_front_of_a_sign_must_stay() -> None:
    """Merged, it would compute something else: the layer's own padding is neither +1 nor -1."""
    framed_model = framed([0, 0, 1, 1, 0, 0, 1, 1], binary=True)
    merged = framed([0, 0, 0, 0, 0, 0, 0, 0], binary=True)
    node = node_named(merged, "conv")
    node.attributes["pads"] = ir.AttrInt64s("pads", [2, 2, 2, 2])
    merged.graph.outputs[0].shape = framed_model.graph.outputs[0].shape
    x = Builder(3).normal(1, 4, 6, 5)
    assert not np.array_equal(run(framed_model, x)[0], run(merged, x)[0])


@settings(max_examples=25)
@given(
    st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]),
    st.sampled_from(["Conv", "MaxPool"]),
    st.tuples(st.integers(4, 9), st.integers(4, 9)),
    st.integers(1, 4),
    st.integers(1, 2),
    st.integers(1, 2),
)
def test_auto_pad_is_written_out(
    mode: str, op: str, size: tuple[int, int], kernel: int, stride: int, dilation: int
) -> None:
    b = Builder(4)
    x = b.input("x", (1, 2, *size))
    kernel = max(kernel, stride)  # below, ONNX Runtime derives negative padding
    if mode != "VALID":
        dilation = 1  # with auto_pad, ONNX Runtime refuses a dilated Conv and gets MaxPool wrong
    reach = (kernel - 1) * dilation + 1
    if mode == "VALID":
        if min(size) < reach:
            return
        out = [(s - reach) // stride + 1 for s in size]
    else:
        out = [-(-s // stride) for s in size]
    inputs = [x, b.constant("w", b.normal(3, 2, kernel, kernel))] if op == "Conv" else [x]
    facts: dict[str, Any] = {
        "kernel_shape": [kernel] * 2,
        "strides": [stride] * 2,
        "dilations": [dilation] * 2,
    }
    y = b.add(op, inputs, "layer", (1, 3 if op == "Conv" else 2, *out), auto_pad=mode, **facts)
    model = b.build(y)
    x_value = b.normal(1, 2, *size)
    before = run(model, x_value)[0]
    result = ExplicitPadding()(model)
    assert result.modified
    assert "auto_pad" not in node_named(model, "layer").attributes
    np.testing.assert_array_equal(run(model, x_value)[0], before)
    assert not ExplicitPadding()(model).modified


@pytest.mark.parametrize(
    ("mode", "pads"), [("SAME_UPPER", (1, 2, 2, 2)), ("SAME_LOWER", (2, 2, 1, 2)), ("VALID", (0, 0, 0, 0))]
)
def test_auto_pad_of_a_dilated_layer(mode: str, pads: tuple[int, ...]) -> None:
    """Taps two rows and two columns apart, of 4 x 3; by hand, since ONNX Runtime refuses it."""
    b = Builder(4)
    x = b.input("x", (1, 2, 6, 7))
    inputs = [x, b.constant("w", b.normal(3, 2, 2, 3))]
    facts: dict[str, Any] = {"kernel_shape": [2, 3], "strides": [2, 1], "dilations": [4, 2]}
    out = (1, 3, 1, 3) if mode == "VALID" else (1, 3, 3, 7)
    model = b.build(b.add("Conv", inputs, "layer", out, auto_pad=mode, **facts))
    (note,) = ExplicitPadding()(model).notes
    assert integers(node_named(model, "layer"), "pads", ()) == pads
    assert (note.site, note.applied, note.reason) == ("layer", True, f"auto_pad {mode} is {list(pads)}")


@pytest.mark.parametrize("op", ["Conv", "MaxPool"])
def test_no_padding_is_written_out_as_zeros(op: str) -> None:
    b = Builder(4)
    x = b.input("x", (1, 2, 6, 7))
    inputs = [x, b.constant("w", b.normal(2, 2, 3, 3))] if op == "Conv" else [x]
    model = b.build(b.add(op, inputs, "layer", (1, 2, 4, 5), kernel_shape=[3, 3]))
    (note,) = ExplicitPadding()(model).notes
    assert integers(node_named(model, "layer"), "pads", ()) == (0, 0, 0, 0)
    assert (note.site, note.applied, note.reason) == ("layer", True, "no padding written out as zeros")


def test_layers_of_ours_say_their_own_padding() -> None:
    b = Builder(4)
    model = b.build(b.binary("BinaryLinear", b.input("x", (1, 4)), "flat", 4))
    assert ExplicitPadding()(model).notes == ()
    b = Builder(4)
    y = b.binary("BinaryConv2d", b.input("x", (1, 4, 5, 5)), "layer", 4, kernel=1)
    model = b.build(y)
    del node_named(model, "layer").attributes["pads"]
    result = ExplicitPadding()(model)
    assert (result.modified, result.notes) == (False, ())
    assert "pads" not in node_named(model, "layer").attributes


@settings(max_examples=10)
@given(st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_merging_changes_no_bit(frame: list[int]) -> None:
    model = framed([0, 0, *frame[:2], 0, 0, *frame[2:]])
    x = Builder(5).normal(1, 4, 6, 5)
    before = run(model, x)[0]
    assert ExplicitPadding()(model).modified
    np.testing.assert_array_equal(run(model, x)[0], before)


def test_a_second_run_changes_nothing() -> None:
    model = framed([0, 0, 1, 2, 0, 0, 3, 4])
    ExplicitPadding()(model)
    after = text(model)
    result = ExplicitPadding()(model)
    assert (result.modified, result.notes, text(model)) == (False, (), after)
