"""What a compiled model consists of: layer by layer from the folded graph, in total from the artefact's program.

MACs are counted as `cost` says. `stored_bytes` are the weights alone, at 1, 8 or 16 bits; what a layer really
keeps in weights.bin, its scales and tables included, follows from the constants of its steps: [role, offset, bytes]
in the payload. Equal constants are stored once, so steps may name the same offset. `activations` are the bytes of the
arena that a step reads and writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from bhpe_compile.artifact.program import Program
from bhpe_compile.exchange.functions import DOMAIN, PACKED
from bhpe_compile.exchange.functions import INT8 as INT8_CONVOLUTIONS
from bhpe_compile.exchange.nodes import array_of, is_packed, layer_of
from bhpe_compile.passes.base import Note
from bhpe_compile.report.cost import (
    BINARY,
    CONVOLUTION,
    FLOAT16,
    FLOAT32,
    INT8,
    LINEAR,
    TRANSPOSED,
    Costs,
    Layer,
)
from bhpe_compile.report.places import NOWHERE, Places
from bhpe_compile.report.steps import epilogues, step_rows

KINDS = {
    **dict(zip(PACKED, (CONVOLUTION, TRANSPOSED, LINEAR), strict=True)),
    **dict(zip(INT8_CONVOLUTIONS, (CONVOLUTION, TRANSPOSED, CONVOLUTION), strict=True)),
    "FixedPointLinear": LINEAR,
    **{"Conv": CONVOLUTION, "ConvTranspose": TRANSPOSED, "Gemm": LINEAR},
}

ALWAYS = (BINARY, INT8, FLOAT16)
"""Precisions that every report tells of; float32 is told where there is any."""

WEIGHT = {**dict.fromkeys(PACKED, 2), **dict.fromkeys(INT8_CONVOLUTIONS, 3)}
"""Which input is the weight, where it is not the second."""


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    if value is None or value.shape is None:
        return ()
    return tuple(int(d) for d in value.shape if isinstance(d, int))


def layer_costs(model: ir.Model, places: Places) -> list[Layer]:
    """Every layer with weights of a folded model, in graph order; how they are compiled is not known yet.

    A layer that is called several times is there for each call (NAME, NAME#1, ...); the weights are the first one's.
    """
    found = [_layer(node, places) for node in model.graph if node.op_type in KINDS]
    return [replace(layer, weights=0) if "#" in layer.name else layer for layer in found]


def _layer(node: ir.Node, places: Places) -> Layer:
    binary, kind = is_packed(node), KINDS[node.op_type]
    levels = node.domain == DOMAIN
    precision = BINARY if binary else INT8 if levels else _float_of(node)
    weight = _shape(node.inputs[WEIGHT.get(node.op_type, 1)])
    x, y = _shape(node.inputs[0]), _shape(node.outputs[0])
    count = weight[0] * node.attributes["channels"].as_int() * prod(weight[2:]) if binary else prod(weight)
    positions = x[0] * prod(x[2:]) if kind == TRANSPOSED else y[0] * prod(y[2:])
    *rows, columns = weight[2:] or (1, 1)
    return Layer(
        name=node.name or "",
        kind=kind,
        precision=precision,
        weights=count,
        macs=count * positions,
        in_channels=x[1],
        out_channels=y[1],
        kernel=(prod(rows), columns),
        inputs=prod(x),
        outputs=prod(y),
        trained=binary or layer_of(node) is not None,
        role=places.role(node.name or ""),
        stage=places.stage(node.name or ""),
    )


def _float_of(node: ir.Node) -> str:
    """How a layer's float weights are stored: as float32 where float16 cannot hold them, or by a depthwise kernel."""
    weight = array_of(node.inputs[1])
    if weight is None or np.array_equal(weight, weight.astype(np.float16)):
        return FLOAT32 if node.attributes.get_int("group", 1) > 1 else FLOAT16
    return FLOAT32


def compile_report(
    model: ir.Model,
    program: Program,
    notes: Sequence[Note],
    facts: dict[str, Any],
    tiles: Mapping[str, str] | None = None,
    places: Places = NOWHERE,
) -> dict[str, Any]:
    """The report.json of an artefact: totals, layers, steps, and what every pass did or refused.

    tiles: register tiles by kernel symbol. places: where the layers belong.
    """
    costs = Costs(tuple(layer_costs(model, places)))
    weights, macs = costs.weights(), costs.macs()
    stored = costs.by_precision(lambda layer: layer.stored_bytes)
    told = (*ALWAYS, FLOAT32) if weights[FLOAT32] else ALWAYS
    glue = sum(step.kind == "glue" for step in program.steps)
    return {
        **facts,
        "weights": {precision: weights[precision] for precision in told},
        "macs": {"binary": macs[BINARY], "int8": macs[INT8], "float": macs[FLOAT16] + macs[FLOAT32]},
        "bytes": {
            **{f"{precision}_weights": stored[precision] for precision in told},
            "weights_image": len(program.weights),
            "arena": program.arena_bytes,
            "workspace": program.workspace_bytes,
        },
        "calls": {"kernels": len(program.steps) - glue, "glue": glue},
        "layers": [layer.to_row() for layer in costs.layers],
        "epilogues": epilogues(model, [layer.name for layer in costs.layers]),
        "steps": step_rows(program, tiles or {}),
        "notes": [asdict(note) for note in _unique(notes)],
    }


def _unique(notes: Iterable[Note]) -> list[Note]:
    return list(dict.fromkeys(notes))
