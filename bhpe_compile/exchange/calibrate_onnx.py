"""The ranges of what convolutions and activations of an ONNX graph read, measured by ONNX Runtime on examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.exchange.activations import activation_of, span_of
from bhpe_compile.exchange.nodes import CONVOLUTIONS, layer_of
from bhpe_compile.exchange.ranges import Samples
from bhpe_compile.exchange.runtime import Runner

Example = Mapping[str, NDArray[Any]]
"""Inputs by name."""


def calibrate_onnx(
    model: ir.Model, examples: Iterable[Example], tick: Callable[[str], None] = lambda _: None
) -> Samples:
    """What the convolutions of `model` read on all `examples`, by layer, and what activations that tables compute read,
    by `span_of` their input; `tick` hears of every one.

    Graph inputs are sampled as they are given. What ONNX Runtime raises for an example is raised.
    """
    watched: dict[str, list[str]] = {}
    for node in model.graph:
        layer, x = layer_of(node), node.inputs[0] if node.inputs else None
        if node.domain == "" and node.op_type in CONVOLUTIONS and layer is not None and x is not None:
            watched.setdefault(x.name or "", []).append(layer)
        for value in node.outputs:
            if node.domain == "" and node.op_type in CONVOLUTIONS and activation_of(value) is not None:
                watched.setdefault(value.name or "", []).append(span_of(value))
    proto = ir.to_proto(model)
    given = {value.name for value in model.graph.inputs}
    there = {value.name for value in model.graph.outputs}
    import onnx

    for name in watched:
        if name not in given | there:
            proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    runner = Runner(proto.SerializeToString())
    samples = Samples()
    for example in examples:
        tick(f"calibration, example {samples.pictures + 1}")
        values = {**runner.run(example), **example}
        for name, layers in watched.items():
            for layer in layers:
                samples.observe(layer, values[name])
        samples.pictures += 1
    return samples
