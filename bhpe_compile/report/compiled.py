"""What a compiled model consists of: layer by layer from the folded graph, in total from the artefact's program.

MACs are counted as `cost` says. `stored_bytes` are the weights alone, at 1, 8 or 16 bits; what a layer really
keeps in weights.bin, its scales and tables included, follows from the constants of its steps: [role, offset, bytes]
in the payload. Equal constants are stored once, so steps may name the same offset. `activations` are the bytes of the
arena that a step reads and writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import onnx_ir as ir

from bhpe_compile.artifact.program import Program
from bhpe_compile.exchange.nodes import has_quantized_weights, layer_of
from bhpe_compile.passes.base import Note
from bhpe_compile.report.steps import epilogues, step_rows

BINARY = {
    "PackedBinaryConv2d": "binary convolution",
    "PackedBinaryConvTranspose2d": "binary transposed convolution",
    "PackedBinaryLinear": "binary linear",
}
DENSE = {"Conv": "convolution", "ConvTranspose": "transposed convolution", "Gemm": "linear"}

PRECISIONS = ("binary", "int8", "float16")


@dataclass(frozen=True)
class LayerCost:
    """One layer with weights: its kind, precision ("binary" | "int8" | "float16"), weights, MACs and stored bytes,
    its channels, kernel size, and the elements of its input and output maps. `trained`: no constant of a formula."""

    name: str
    kind: str
    precision: str
    weights: int
    macs: int
    stored_bytes: int
    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]
    inputs: int
    outputs: int
    trained: bool = True


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    if value is None or value.shape is None:
        return ()
    return tuple(int(d) for d in value.shape if isinstance(d, int))


def layer_costs(model: ir.Model) -> list[LayerCost]:
    """Costs of every layer with weights in a folded model, in graph order."""
    costs = []
    for node in model.graph:
        binary = node.domain == "bhpe" and node.op_type in BINARY
        if not binary and not (node.op_type in DENSE and node.domain in ("", "ai.onnx")):
            continue
        precision = "binary" if binary else "int8" if has_quantized_weights(node) else "float16"
        weight = _shape(node.inputs[2 if binary else 1])
        x, y = _shape(node.inputs[0]), _shape(node.outputs[0])
        channels = node.attributes["channels"].as_int() if binary else 0
        transposed = "ConvTranspose" in node.op_type
        if binary:
            count = weight[0] * channels * prod(weight[2:])
            stored = 4 * prod(weight)
        else:
            count = prod(weight)
            stored = count * (1 if precision == "int8" else 2)
        positions = x[0] * prod(x[2:]) if transposed else y[0] * prod(y[2:])
        kind = BINARY[node.op_type] if binary else DENSE[node.op_type]
        costs.append(
            LayerCost(
                name=node.name or "",
                kind=kind,
                precision=precision,
                weights=count,
                macs=count * positions,
                stored_bytes=stored,
                in_channels=x[1],
                out_channels=y[1],
                kernel=tuple(weight[2:]) or (1, 1),
                inputs=prod(x),
                outputs=prod(y),
                trained=binary or layer_of(node) is not None,
            )
        )
    return costs


def compile_report(
    model: ir.Model,
    program: Program,
    notes: Sequence[Note],
    facts: dict[str, Any],
    tiles: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The report.json of an artefact: totals, layers, steps, and what every pass did or refused.

    tiles: register tiles by kernel symbol.
    """
    layers = layer_costs(model)

    def total(precision: str, field: str) -> int:
        return sum(getattr(layer, field) for layer in layers if layer.precision == precision)

    glue = sum(step.kind == "glue" for step in program.steps)
    return {
        **facts,
        "weights": {kind: total(kind, "weights") for kind in PRECISIONS},
        "macs": {
            "binary": total("binary", "macs"),
            "int8": total("int8", "macs"),
            "float": total("float16", "macs"),
        },
        "bytes": {
            **{f"{kind}_weights": total(kind, "stored_bytes") for kind in PRECISIONS},
            "weights_image": len(program.weights),
            "arena": program.arena_bytes,
            "workspace": program.workspace_bytes,
        },
        "calls": {"kernels": len(program.steps) - glue, "glue": glue},
        "layers": [asdict(layer) | {"kernel": list(layer.kernel)} for layer in layers],
        "epilogues": epilogues(model, {layer.name: layer for layer in layers}),
        "steps": step_rows(program, tiles or {}),
        "notes": [asdict(note) for note in _unique(notes)],
    }


def _unique(notes: Iterable[Note]) -> list[Note]:
    return list(dict.fromkeys(notes))
