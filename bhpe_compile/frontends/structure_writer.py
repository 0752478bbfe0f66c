"""Collects the steps and the weights of a graph that becomes a `Structure`; what writes each operator asks this."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from bhpe_compile.errors import InputError
from bhpe_compile.exchange.nodes import array_of, layer_of
from bhpe_compile.networks.structure import CONSTANTS, Setting, Step, Structure
from bhpe_compile.networks.structure_torch import is_usable
from bhpe_compile.passes.imported.roles import find_roles

SEPARATORS = re.compile(r"[/.:]+")
UNUSABLE = re.compile(r"\W", re.ASCII)

PER_AXIS = 13
"""The op set from which on a softmax is along one axis, and not along it and all behind it."""


class StructureWriter:
    """Writes the graph of a file as a structure and a state. InputError names the node that has no form."""

    def __init__(self, source: str, model: ir.Model) -> None:
        self.source, self.graph = source, model.graph
        self.opset = model.opset_imports.get("", PER_AXIS)
        self.steps: list[Step] = []
        self.state: dict[str, Tensor] = {}
        self.names: dict[ir.Value, str] = {}
        self.paths: set[str] = set()
        self.layers: dict[tuple[object, ...], str] = {}
        """Paths of layers by what they are made of: one that is called twice is one."""
        self.roles = find_roles(self.graph)
        for value in self.graph.inputs:
            self.names[value] = value.name or ""

    def finished(self) -> tuple[Structure, dict[str, Tensor]]:
        """Structure and state, after every node was written."""
        outputs = {value.name or "": self.name_of(value, None) for value in self.graph.outputs}
        inputs = tuple(value.name or "" for value in self.graph.inputs)
        return Structure(inputs, outputs, tuple(self.steps)), self.state

    def refusal(self, node: ir.Node, why: str) -> InputError:
        return InputError(f"{self.source}: cannot be trained: node {node.op_type} ({node.name}): {why}")

    # ---- values -----------------------------------------------------------------------------------------------

    def name_of(self, value: ir.Value | None, node: ir.Node | None) -> str:
        """What a value, or a constant, is called in the structure."""
        if value is not None and value in self.names:
            return self.names[value]
        array = array_of(value)
        if value is None or array is None or array.dtype != np.float32:
            kind = "a constant that is no float32" if array is not None else "what is computed of no input"
            name = "" if node is None else f"node {node.op_type} ({node.name}): "
            raise InputError(f"{self.source}: cannot be trained: {name}reads {kind}")
        self.names[value] = self.constant(array)
        return self.names[value]

    def constant(self, array: NDArray[Any]) -> str:
        """A new constant."""
        path = f"{CONSTANTS}.c{len(self.state)}"
        self.state[path] = tensor_of(array)
        return path

    def emit(
        self,
        kind: str,
        inputs: Sequence[str],
        value: ir.Value | None = None,
        path: str = "",
        **settings: Setting,
    ) -> str:
        """One step; its result, which is `value` where that is said."""
        output = f"#{len(self.steps)}"  # no input is called so
        self.steps.append(Step(kind, tuple(inputs), output, path, settings))
        if value is not None:
            self.names[value] = output
        return output

    def path(self, name: str) -> str:
        """A new path of a module after the name of a node."""
        words = [UNUSABLE.sub("_", word).lstrip("_") for word in SEPARATORS.split(name)]
        words = [word if is_usable(word) else f"{word}_" for word in words if word] or ["layer"]
        if not words[0][0].isalpha():
            words[0] = f"layer_{words[0]}"
        dotted, count = ".".join(words), 1
        if self._clashes(dotted):
            dotted = "_".join(words)
        path = dotted
        while self._clashes(path):
            count += 1
            path = f"{dotted}_{count}"
        self.paths.add(path)
        return path

    def _clashes(self, path: str) -> bool:
        """Whether a module is called so, or stands inside of another then."""
        return path.split(".")[0] == CONSTANTS or any(
            one == path or one.startswith(f"{path}.") or path.startswith(f"{one}.") for one in self.paths
        )

    def module(self, kind: str, node: ir.Node, **settings: Setting) -> str:
        """A step without weights that is a module."""
        x = self.name_of(node.inputs[0], node)
        return self.emit(kind, [x], node.outputs[0], self.path(node.name or kind), **settings)

    def layer(
        self,
        kind: str,
        node: ir.Node,
        x: str,
        weights: Mapping[str, NDArray[Any]],
        value: ir.Value | None,
        **settings: Setting,
    ) -> str:
        """A step that is a module with these weights; the module that has them already, where there is one."""
        key = (kind, *(value for value in node.inputs[1:]), *settings.items())
        if key not in self.layers:
            path = self.path(layer_of(node) or node.name or kind)
            self.layers[key] = path
            for name, array in weights.items():
                self.state[f"{path}.{name}"] = tensor_of(array)
        return self.emit(kind, [x], value, self.layers[key], **settings)

    def weight(self, node: ir.Node, index: int) -> NDArray[Any] | None:
        """A stored weight; None where the node has none there."""
        value = node.inputs[index] if len(node.inputs) > index else None
        if value is None:
            return None
        array = array_of(value)
        if array is None or array.dtype != np.float32:
            raise self.refusal(node, "its weights are computed, or no float32")
        return array

    def integers(self, node: ir.Node, index: int, attribute: str = "") -> tuple[int, ...] | None:
        """Whole numbers that an input or an attribute says; None where neither does."""
        if attribute in node.attributes:
            return tuple(node.attributes[attribute].as_ints())
        value = node.inputs[index] if len(node.inputs) > index else None
        if value is None:
            return None
        array = array_of(value)
        if array is None:
            raise self.refusal(node, "its sizes are computed at run time")
        return tuple(int(one) for one in array.reshape(-1))

    def axis(self, node: ir.Node, axis: int, rank: int) -> int:
        """An axis counted from the front. InputError where it is the first, along which pictures lie."""
        axis %= rank
        if axis == 0:
            raise self.refusal(node, "works along the first axis, along which the pictures of a batch lie")
        return axis


def tensor_of(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32, order="C"))


def number(node: ir.Node, name: str, default: float) -> float:
    return node.attributes[name].as_float() if name in node.attributes else default
