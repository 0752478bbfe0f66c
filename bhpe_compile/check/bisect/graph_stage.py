"""One ONNX graph against the reference, layer by layer: the first place that differs beyond its bound.

In the order of the graph, of every layer: the signs (binary) or values (dense) in front of it, then what stands behind
its batch norms; at last the network's outputs. Since every layer is fed the reference's values, the first difference
lies at the node that is named: at the layer itself, or at the node that computes what it reads.

Passes that round declare their own bound: it is their Q/DQ and cast pairs that are judged, and the graph without them
is judged as any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bhpe_compile.check.bisect.cut import (
    Layer,
    Values,
    layers_of,
    margins_of,
    run_cut,
    run_onnx,
    signs_of,
)
from bhpe_compile.check.bisect.reference import Reference
from bhpe_compile.check.bisect.statistics import (
    ROUNDING_BOUND,
    Difference,
    compare_floats,
    compare_signs,
)
from bhpe_compile.check.verify.compare import difference
from bhpe_compile.networks.interface import Output

Array = NDArray[Any]


@dataclass(frozen=True)
class Finding:
    """A place of a graph: the node that computes it, the name of the value, and how it differs."""

    node: str
    value: str
    difference: Difference
    expected: Array
    found: Array


@dataclass(frozen=True)
class Judged:
    """What came of one graph: places compared, flipped signs, the first finding beyond its bound (None: all well)."""

    values: Values
    compared: int
    flips: int
    signs: int
    finding: Finding | None
    good: tuple[str, ...]


def reference_signs(model: onnx.ModelProto, reference: Reference) -> dict[str, NDArray[np.bool_]]:
    """The signs every binary layer of the exported graph takes of what torch's layer read."""
    return {
        layer.name: signs_of(layer, reference.reads[layer.name])
        for layer in layers_of(model)
        if layer.threshold is not None and layer.name in reference.reads
    }


def reference_margins(model: onnx.ModelProto, reference: Reference) -> dict[str, Array]:
    """How far torch's values were from the thresholds."""
    return {
        layer.name: margins_of(layer, reference.reads[layer.name])
        for layer in layers_of(model)
        if layer.threshold is not None and layer.name in reference.reads
    }


def judge(
    model: onnx.ModelProto,
    reference: Reference,
    signs: Mapping[str, NDArray[np.bool_]],
    margins: Mapping[str, Array],
    inputs: Mapping[str, Array],
    changed: frozenset[str] = frozenset(),
) -> Judged:
    """Compare a graph with the reference. changed: layers of which a pass moved the tail past an activation."""
    values = run_cut(model, inputs, reference.reads, signs)
    compared = flips = total = 0
    good: list[str] = []
    for finding in _places(model, values, reference, signs, margins, changed):
        compared += 1
        if finding.value not in reference.outputs and finding.expected.dtype == np.bool_:
            flips += finding.difference.flips
            total += finding.expected.size
        if not finding.difference.ok:
            return Judged(values, compared, flips, total, finding, tuple(good))
        good.append(finding.value)
    rounding = _rounding(model, values)
    return Judged(values, compared, flips, total, rounding, tuple(good))


def _places(
    model: onnx.ModelProto,
    values: Values,
    reference: Reference,
    signs: Mapping[str, NDArray[np.bool_]],
    margins: Mapping[str, Array],
    changed: frozenset[str],
) -> Iterator[Finding]:
    producers = {name: node.name for node in values.model.graph.node for name in node.output}
    for original, layer in zip(_without_rounding(model), layers_of(values.model), strict=True):
        x = values.values.get(original.x)
        if x is not None and layer.name in reference.reads:
            found = _read(layer, original, x, reference, signs, margins)
            if found is not None:
                yield Finding(producers.get(original.x, "input"), original.x, *found)
        tail, expected = values.values.get(layer.tail), reference.tails.get(layer.name)
        if tail is None or expected is None or layer.name in changed or tail.size != expected.size:
            continue
        if layer.tail != layer.x:
            gap = compare_floats(f"behind {layer.name}", tail, expected)
            yield Finding(layer.name, layer.tail, gap, expected, tail.reshape(expected.shape))
    for name, expected in reference.outputs.items():
        found_array = values.values[name]
        gap = compare_output(reference.interface.output(name), found_array, expected)
        yield Finding(producers.get(name, "input"), name, gap, expected, found_array)


def _without_rounding(model: onnx.ModelProto) -> list[Layer]:
    """The layers with what they read before the graph was cut, rounding taken out."""
    from bhpe_compile.check.verify.oracle import remove_rounding

    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    remove_rounding(whole)
    return layers_of(whole)


def _read(
    layer: Layer,
    original: Layer,
    x: Array,
    reference: Reference,
    signs: Mapping[str, NDArray[np.bool_]],
    margins: Mapping[str, Array],
) -> tuple[Difference, Array, Array] | None:
    """What stands in front of a layer against the reference; None where shapes tell that something else is read."""
    expected = reference.reads[layer.name]
    if x.size != expected.size:
        return None
    if layer.threshold is None:
        x = x.reshape(expected.shape)
        return compare_floats(f"in front of {layer.name}", x, expected), expected, x
    if x.shape != expected.shape:
        return None
    sign = signs_of(original, x)
    gap = compare_signs(f"signs in front of {layer.name}", sign, signs[layer.name], margins[layer.name])
    return gap, signs[layer.name], sign


def compare_output(output: Output, found: Array, expected: Array) -> Difference:
    """An output in its own unit, against the tolerance of its description."""
    gap, bound = difference(output, found, expected), output.bound
    plain = compare_floats(f"output {output.name}", found, expected)
    wrong = not gap <= bound
    return Difference(
        what=plain.what,
        shape=plain.shape,
        bound=bound,
        beyond=max(plain.beyond, 1) if wrong else 0,
        first=plain.first if wrong else None,
        largest=gap,
        rms=plain.rms,
        expected_range=plain.expected_range,
        found_range=plain.found_range,
        flips=plain.flips,
    )


def _rounding(model: onnx.ModelProto, values: Values) -> Finding | None:
    """The first Q/DQ or cast pair that moves what it stands for too far."""
    producers = {name: node for node in model.graph.node for name in node.output}
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    pairs = [
        (node, before)
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        and (before := producers.get(node.input[0])) is not None
        and before.op_type == "QuantizeLinear"
    ]
    sources = [before.input[0] for _, before in pairs if before.input[0] not in arrays]
    known = run_onnx(values.model, values.feeds, sources) | dict(values.feeds)
    for node, before in pairs:
        name = before.input[0]
        x = numpy_helper.to_array(arrays[name]) if name in arrays else known.get(name)
        if x is None:
            continue
        back = _through(node, before, x, arrays)
        error, size = (float(np.sqrt(np.mean(np.square(a, dtype=np.float64)))) for a in (back - x, x))
        if error > ROUNDING_BOUND * size:
            gap = compare_floats(f"8-bit values of {name}", back, x, ROUNDING_BOUND)
            owner = node.name.removesuffix(".dq").rpartition(".")[0] or node.name
            return Finding(owner, node.output[0], gap, x, back)
    return None


def _through(
    back: onnx.NodeProto, levels: onnx.NodeProto, x: Array, arrays: Mapping[str, onnx.TensorProto]
) -> Array:
    step = numpy_helper.to_array(arrays[levels.input[1]]).astype(np.float64)
    zero = numpy_helper.to_array(arrays[levels.input[2]])
    axis = next((a.i for a in levels.attribute if a.name == "axis"), 1)
    limits = np.iinfo(zero.dtype)
    if step.ndim:
        column = [-1 if k == axis else 1 for k in range(x.ndim)]
        step, offset = step.reshape(column), zero.astype(np.float64).reshape(column)
    else:
        offset = zero.astype(np.float64)
    level = np.clip(np.rint(x / step) + offset, limits.min, limits.max)
    second = numpy_helper.to_array(arrays[back.input[1]]).astype(np.float64)
    second = second.reshape(step.shape) if step.ndim else second
    return np.asarray(((level - offset) * second).astype(np.float32))
