"""Norm, activation and sign against the integer threshold, on every value an accumulator can take.

With weights of +1, row n of the picture has n entries above their threshold: its accumulator is 2n - K.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bhpe_compile.passes.fold.fold_batch_norm import FoldBatchNorm
from bhpe_compile.passes.fold.fold_threshold import FoldThreshold
from tests.passes.fold.graphs import Builder, array, node_named, op_types, run

OUT = 4
# quarters meet each other exactly, so that values fall on thresholds; other floats round
quarters = st.integers(-8, 8).map(lambda n: n / 4)
single = quarters | st.floats(-2, 2, width=32)
four = st.lists(single, min_size=OUT, max_size=OUT)
positive = single.map(abs)
factor = st.integers(1, 8).map(lambda n: n / 4) | st.floats(0.0078125, 2, width=32)


def column(values: list[float]) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def bits(model: ir.Model, x: NDArray[np.float32]) -> NDArray[np.bool_]:
    """What the reader's sign sees: value >= threshold, [rows, OUT]."""
    reader = node_named(model, "reader")
    value = reader.inputs[0]
    assert value is not None
    shown = ir.from_proto(ir.to_proto(model))
    shown.graph.outputs[0] = next(v for n in shown.graph for v in n.outputs if v.name == value.name)
    signs: NDArray[np.bool_] = run(shown, x)[0] >= array(reader.inputs[1])
    return signs


@settings(max_examples=60)
@given(
    st.integers(1, 40),
    st.lists(st.tuples(factor, st.sampled_from([-1, 1])), min_size=OUT, max_size=OUT),
    four,
    four,
    st.lists(positive, min_size=OUT, max_size=OUT),
    four,
    four,
    st.sampled_from(["norm", "rprelu", "both"]),
)
@example(2, [(1, 1), (1, -1)] * 2, [0] * 4, [0] * 4, [1] * 4, [0] * 4, [0] * 4, "rprelu")  # 0 >= 0
def test_bits_are_the_same(
    features: int,
    gammas: list[tuple[float, int]],
    offset: list[float],
    gamma: list[float],
    beta: list[float],
    zeta: list[float],
    limit: list[float],
    parts: str,
) -> None:
    """Norm factors of both signs, slopes of 0 and above, any threshold."""
    b = Builder(19)
    x = b.input("x", (features + 1, features))
    scale = column([value * sign for value, sign in gammas])
    y = b.binary(
        "BinaryLinear", x, "first", OUT, threshold=np.zeros(features, np.float32), bias=column(offset)
    )
    if parts != "rprelu":
        y = b.batch_norm(y, "norm")
    if parts != "norm":
        y = b.rprelu(y, "act", column(beta))
    model = b.build(b.binary("BinaryLinear", y, "reader", 2, threshold=column(limit)))
    chosen = {"first.weight": np.ones((OUT, features), np.float32), "first.scale": np.abs(scale)}
    chosen |= {"norm.gamma": scale} if parts != "rprelu" else {"first.scale": scale}
    chosen |= {"act.gamma": column(gamma), "act.zeta": column(zeta)} if parts != "norm" else {}
    for name, values in chosen.items():
        model.graph.initializers[name].const_value = ir.tensor(values, name=name)
    rows = np.where(np.tri(features + 1, features, -1, bool), np.float32(1), np.float32(-1))

    FoldBatchNorm()(model)
    before, outputs = bits(model, rows), run(model, rows)[0]
    assert FoldThreshold()(model).modified
    assert op_types(model) == ["BinaryLinear", "BinaryLinear"]
    np.testing.assert_array_equal(bits(model, rows), before)
    np.testing.assert_array_equal(run(model, rows)[0], outputs)
    sums = run_first(model, rows)
    assert np.array_equal(
        np.abs(sums), np.broadcast_to(np.abs(2 * np.arange(features + 1) - features)[:, None], sums.shape)
    )


def run_first(model: ir.Model, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The integers the folded layer hands on."""
    shown = ir.from_proto(ir.to_proto(model))
    shown.graph.outputs[0] = node_named(shown, "first").outputs[0]
    sums: NDArray[np.float32] = run(shown, x)[0]
    return sums
