"""What a report tells of every call of a program, and which nodes of the ONNX graph belong to which layer.

constants          [role, offset, bytes] of what the call reads from the weights image
constant_bytes     their sum
read, written      bytes of activations; a tensor in the arena that is not the result is read
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import onnx_ir as ir

from bhpe_compile.artifact.program import Program, Step
from bhpe_compile.exchange.functions import PACKED

RESULTS = ("out", "bits", "levels")
"""Roles that kernels of ours write; generated code writes its last argument."""

FOLLOWERS = ("ChannelAffine", "RPReLU", "Relu", "Clip", "Add", "BatchNormalization", "Cast")
"""Operators that a layer's kernel computes as well."""


def step_rows(program: Program, tiles: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row a call, in order. tiles: register tiles by kernel symbol."""
    return [_row(program, step, tiles) for step in program.steps]


def _row(program: Program, step: Step, tiles: Mapping[str, str]) -> dict[str, Any]:
    sizes = {"constant": 0, "read": 0, "written": 0}
    constants = []
    for index, (role, tensor) in enumerate(zip(step.roles, step.args, strict=True)):
        slot = program.tensors[tensor]
        result = role in RESULTS or (step.kind == "glue" and index == len(step.args) - 1)
        where = "constant" if slot.storage == "weights" else "written" if result else "read"
        sizes[where] += slot.nbytes
        if where == "constant":
            constants.append([role, slot.offset, slot.nbytes])
    return {
        "kernel": step.symbol,
        "kind": step.kind,
        "layer": step.layer,
        "tile": tiles.get(step.symbol),
        "constants": constants,
        "constant_bytes": sizes["constant"],
        "read_bytes": sizes["read"],
        "written_bytes": sizes["written"],
    }


def epilogues(model: ir.Model, layers: Collection[str]) -> dict[str, list[str]]:
    """Layer name -> names of the nodes behind it that belong to it, in a folded model.

    Binary layers take an addition that two layers meet in: their chain is the longer one.
    """
    owned: dict[str, list[str]] = {name: [] for name in layers}
    taken: set[str] = set()
    nodes = [node for node in model.graph if node.name in layers]
    for node in sorted(nodes, key=lambda node: node.op_type not in PACKED):
        for follower in _behind(node):
            name = follower.name or ""
            if name in taken:
                break
            taken.add(name)
            owned[node.name or ""].append(name)
    return {name: found for name, found in owned.items() if found}


def _behind(node: ir.Node) -> Iterator[ir.Node]:
    value = node.outputs[0]
    while True:
        followers = [use.node for use in value.uses() if use.node.op_type in FOLLOWERS]
        first = next((one for one in followers if one.op_type != "Cast"), None)
        if first is None:
            return
        yield first
        value = first.outputs[0]
