"""HardSigmoid and HardSwish that a file writes out become one operator; other constants and other readers do not."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from bhpe_compile.exchange.runtime import run_model
from bhpe_compile.passes.imported.plain_forms import PlainForms
from tests.onnx_graphs import Net

IMAGE = np.linspace(-8, 8, 1 * 2 * 5 * 7, dtype=np.float32).reshape(1, 2, 5, 7)


def hard(form: str, *, three: float = 3, six: float = 6, opset: int = 17) -> onnx.ModelProto:
    """x Clip(x + 3, 0, 6) / 6 in one of the ways in which exporters write it; "gate": without x."""
    net = Net()

    def number(value: float) -> str:
        return net.constant(np.array(value, np.float32))

    shifted = net.add("Add", *((number(three), "image") if form == "turned" else ("image", number(three))))
    gate = net.add("Clip", shifted, number(0), number(six))
    if form == "read twice":
        net.add("Neg", gate, out="z")
    if form in ("gate", "gate first", "read twice"):
        y = net.add("Div", gate, number(6))
        y = y if form == "gate" else net.add("Mul", "image", y)
    else:
        y = net.add("Mul", *((gate, "image") if form == "turned" else ("image", gate)))
        y = net.add("Mul", y, number(1 / 6)) if form == "turned" else net.add("Div", y, number(6))
    net.add("Neg", y, out="y")
    return net.model({"image": IMAGE.shape}, ["y", *(["z"] if form == "read twice" else [])], opset=opset)


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def run(model: ir.Model) -> np.ndarray:
    return run_model(ir.to_proto(model).SerializeToString(), {"image": IMAGE})["y"]


FORMS = {
    "plain": ["HardSwish", "Neg"],
    "turned": ["HardSwish", "Neg"],
    "gate first": ["HardSigmoid", "Mul", "Neg"],
    "gate": ["HardSigmoid", "Neg"],
}


@pytest.mark.parametrize("form", FORMS)
def test_hard_forms(form: str) -> None:
    before, after = ir.from_proto(hard(form)), ir.from_proto(hard(form))
    assert [note.applied for note in PlainForms()(after).notes] == [True]
    assert kinds(after) == FORMS[form]
    np.testing.assert_allclose(run(after), run(before), rtol=1e-6, atol=2e-6)  # the division is elsewhere
    assert not PlainForms()(after).modified


@pytest.mark.parametrize(
    "made",
    [hard("plain", three=2), hard("plain", six=5), hard("read twice"), hard("plain", opset=13)],
    ids=["not 3", "not 6", "the gate is read besides", "an op set without HardSwish"],
)
def test_other_forms_stay(made: onnx.ModelProto) -> None:
    model = ir.from_proto(made)
    before = kinds(model)
    assert not PlainForms()(model).modified
    assert kinds(model) == before
