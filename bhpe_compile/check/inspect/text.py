"""Graphs and programs as text that people read and `diff` compares.

torch.fx graph   one line a node: %name = what it calls (its arguments); layers with their sizes
ONNX graph       inputs, outputs, the constants' shapes and ranges, then one line a node in ONNX's own syntax
program          memory, then one line a call: kernel, layer, and where every argument lies
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import fx

    from bhpe_compile.artifact.program import Program

SHOWN = 8
"""Elements up to which a constant is printed itself."""


def text_of(subject: object) -> str:
    """`subject` as text; TypeError for what is no graph."""
    import onnx_ir as ir
    from torch import fx

    from bhpe_compile.artifact.program import Program

    if isinstance(subject, fx.GraphModule):
        return fx_text(subject)
    if isinstance(subject, ir.Model):
        return onnx_text(subject)
    if isinstance(subject, Program):
        return program_text(subject)
    raise TypeError(f"{type(subject).__name__} is no graph")


def fx_text(graph: fx.GraphModule) -> str:
    """A torch.fx graph, one node a line."""
    return "\n".join(_fx_line(graph, node) for node in graph.graph.nodes) + "\n"


def _fx_line(graph: fx.GraphModule, node: fx.Node) -> str:
    words = [f"%{a.name}" if isinstance(a, type(node)) else str(a) for a in node.args]
    words += [f"{key}={value}" for key, value in node.kwargs.items()]
    called = getattr(node.target, "__name__", str(node.target))
    if node.op == "call_module":
        layer = graph.get_submodule(str(node.target))
        called = f"{node.target}: {type(layer).__name__}({layer.extra_repr()})"
    elif node.op in ("get_attr", "call_method"):
        called = f"{node.op} {called}"
    elif node.op in ("placeholder", "output"):
        called = node.op
    return f"%{node.name} = {called} ({', '.join(words)})"


def onnx_text(model: ir.Model) -> str:
    """An ONNX graph: constants of more than a few elements are described, not printed."""
    import onnx_ir as ir
    from onnx import printer

    graph = model.graph
    lines = [f"opset {name or 'ai.onnx'} {number}" for name, number in sorted(model.opset_imports.items())]
    lines += [f"input  {_typed(value)}" for value in graph.inputs]
    lines += [f"output {_typed(value)}" for value in graph.outputs]
    lines += [f"const  {_typed(v)} {_contents(v)}" for _, v in sorted(graph.initializers.items())]
    for node in graph:
        results = ", ".join(_typed(value) for value in node.outputs)
        text = printer.to_text(ir.to_proto(node)).strip()
        lines.append(f"{text}   # {results}")
    return "\n".join(lines) + "\n"


def _typed(value: ir.Value) -> str:
    shape = "?" if value.shape is None else "x".join(str(d) for d in value.shape) or "scalar"
    return f"{value.name}: {value.dtype.name.lower() if value.dtype is not None else '?'} {shape}"


def _contents(value: ir.Value) -> str:
    if value.const_value is None:
        return ""
    array = value.const_value.numpy()
    if array.size <= SHOWN:
        return f"= {array.tolist()}"
    return f"in {array.min():.6g} .. {array.max():.6g}, mean {np.mean(array, dtype=np.float64):.6g}"


def program_text(program: Program) -> str:
    """A lowered program."""
    lines = [
        f"weights   {len(program.weights)} bytes",
        f"arena     {program.arena_bytes} bytes",
        f"workspace {program.workspace_bytes} bytes",
        *_ports("input", program, program.inputs),
        *_ports("output", program, program.outputs),
        "",
    ]
    for index, step in enumerate(program.steps):
        lines.append(f"{index:4} {step.symbol}  ({step.kind}{', ' if step.layer else ''}{step.layer})")
        lines += [
            f"       {role:<10} {_slot(program, tensor)}"
            for role, tensor in zip(step.roles, step.args, strict=True)
        ]
    return "\n".join(lines) + "\n"


def _ports(word: str, program: Program, ports: Any) -> Iterator[str]:
    return (f"{word:<9} {port.name}: {_slot(program, port.tensor)}" for port in ports)


def _slot(program: Program, tensor: int) -> str:
    slot = program.tensors[tensor]
    shape = "x".join(map(str, slot.shape)) or "scalar"
    return f"{slot.dtype} {shape} at {slot.storage}+{slot.offset}"
