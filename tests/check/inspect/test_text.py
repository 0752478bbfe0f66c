"""Graphs as text: every node is there, large constants are described and not printed."""

from __future__ import annotations

import numpy as np
import pytest
from torch import fx, nn

from bhpe_compile.artifact.program import Port, Program, Step, TensorSlot
from bhpe_compile.check.inspect.text import text_of
from tests.passes.fold.graphs import Builder


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.conv(x).relu()


def test_fx_graph() -> None:
    lines = text_of(fx.symbolic_trace(Small())).splitlines()
    assert lines[0] == "%x = placeholder ()"
    assert lines[1].startswith("%conv = conv: Conv2d(3, 4, kernel_size=(1, 1)")
    assert lines[1].endswith("(%x)")
    assert lines[2] == "%relu = call_method relu (%conv)"
    assert len(lines) == 4


def test_onnx_graph() -> None:
    b = Builder(1)
    model = b.build(b.dense(b.input("x", (1, 3, 8, 8)), "stem", 8, bias=True))
    text = text_of(model)
    assert "input  x: float 1x3x8x8" in text
    weight = next(line for line in text.splitlines() if line.startswith("const  stem.weight: float 8x3x"))
    values = model.graph.initializers["stem.weight"].const_value.numpy()
    assert f"in {values.min():.6g} .. {values.max():.6g}" in weight
    assert "Conv" in text.splitlines()[-1]
    assert text_of(model) == text
    assert len(text) < 2000


def test_program() -> None:
    slots = (
        TensorSlot("arena", 0, 16, (4,), "float32"),
        TensorSlot("weights", 64, 4, (), "float32"),
        TensorSlot("arena", 64, 16, (4,), "float32"),
    )
    step = Step("bhpe_scale", "Scale", "head", (0, 1, 2), ("x", "scale", "out"))
    program = Program(slots, (step,), (Port("x", 0),), (Port("y", 2),), 128, 0, bytes(128), ())
    lines = text_of(program).splitlines()
    assert lines[3:5] == ["input     x: float32 4 at arena+0", "output    y: float32 4 at arena+64"]
    assert lines[6] == "   0 bhpe_scale  (Scale, head)"
    assert lines[8] == "       scale      float32 scalar at weights+64"


def test_anything_else_is_a_defect() -> None:
    with pytest.raises(TypeError, match="ndarray"):
        text_of(np.zeros(3))
