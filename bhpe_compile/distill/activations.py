"""Which activations a binary form has, and which it has them for: a student is another function, not a rounded one."""

from __future__ import annotations

from collections import Counter

from torch import fx, nn

from bhpe_compile.networks.layers.binary import BinaryLayer, RPReLU
from bhpe_compile.passes.binarize.sites import called_module, is_relu

OURS: dict[type[nn.Module], str] = {RPReLU: "RPReLU behind", nn.Hardtanh: "Hardtanh before"}
"""What binary layers have, and on which side of them."""


def replaced(teacher: fx.GraphModule, student: fx.GraphModule) -> str:
    """'9 of 13 ReLU became RPReLU behind (12) and Hardtanh before (12) the signs of 12 binary layers'.

    Both are graphs before rounding is added.
    """
    before, after = _relus(teacher), _relus(student)
    kinds = Counter(
        name
        for node in student.graph.nodes
        for kind, name in OURS.items()
        if type(called_module(student, node)) is kind
    )
    kinds.subtract(
        name
        for node in teacher.graph.nodes
        for kind, name in OURS.items()
        if type(called_module(teacher, node)) is kind
    )
    layers = sum(isinstance(called_module(student, node), BinaryLayer) for node in student.graph.nodes)
    new = " and ".join(f"{name} ({count})" for name, count in kinds.items() if count > 0)
    return f"{before - after} of {before} ReLU became {new or 'nothing'} the signs of {layers} binary layers"


def _relus(graph: fx.GraphModule) -> int:
    return sum(is_relu(graph, node) for node in graph.graph.nodes)
