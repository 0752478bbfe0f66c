"""Features to compare: what layers that keep their place read of the trunk, in the teacher's graph and the student's.

Block shortcuts begin a stage, and heads end the trunk. Both graphs call them by the same path, so what they read is
the same place of the network, however the layers between became binary. Where the student's shortcut reads a sum that
stays signed (the ReLU behind it is gone), the teacher's sum before its ReLU is what it is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx, nn

from bhpe_compile.networks.layers.binary import BinaryLayer
from bhpe_compile.networks.layers.rounding import Half
from bhpe_compile.passes.binarize.roles import ROLES, role_of
from bhpe_compile.passes.binarize.sites import called_module, is_relu

PREFIX = "features."
"""Of the outputs that taps add."""

_CONSTANT = {torch.ones_like, torch.zeros_like, torch.full_like}
"""Functions whose result is the same whatever the values of their argument are."""

_ONE_BY_ONE = (torch.cat, torch.concat)
"""Functions whose arguments are compared one by one."""

Pair = tuple[fx.Node, fx.Node]
"""A place in the teacher's graph, and the same in the student's."""


def find_taps(teacher: fx.GraphModule, student: fx.GraphModule) -> dict[str, Pair]:
    """The places that are compared, by name: one for each place of the teacher, though several layers read it."""
    found: dict[str, Pair] = {}
    seen: set[Pair] = set()
    theirs = dict(_layers(student))
    behind_heads = _behind(teacher, [node for path, node in _layers(teacher) if _is_head(teacher, path)])
    computed = _behind(teacher, [node for _, node in _layers(teacher)])
    for path, node in _layers(teacher):
        if path not in theirs or role_of(teacher, path) not in ("shortcut", "head", "branch"):
            continue
        for one, other in zip(_read(teacher, node), _read(student, theirs[path]), strict=True):
            if role_of(teacher, path) == "shortcut" and is_relu(teacher, one) and not is_relu(student, other):
                one = one.all_input_nodes[0]
            pair = one, other
            if one in computed and one not in behind_heads and pair not in seen:
                seen.add(pair)
                found[f"{PREFIX}{len(found)}"] = pair
    return found


def add_taps(graph: fx.GraphModule, taps: Mapping[str, fx.Node]) -> None:
    """Let `graph`, which returns a dict, return these nodes as well."""
    output = graph.graph.output_node()
    (values,) = output.args
    assert isinstance(values, dict)  # what every network returns
    output.args = ({**values, **taps},)
    graph.graph.lint()
    graph.recompile()


def _layers(graph: fx.GraphModule) -> list[tuple[str, fx.Node]]:
    """Path and first call of every layer, in the order of the graph; binary layers keep the path of theirs."""
    found: dict[str, fx.Node] = {}
    for node in graph.graph.nodes:
        if node.op == "call_module" and str(node.target) in graph.meta[ROLES]:
            found.setdefault(str(node.target), node)
    return list(found.items())


def _is_head(graph: fx.GraphModule, path: str) -> bool:
    return role_of(graph, path) in ("head", "branch")


def _read(graph: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """What a layer reads, before it is rounded or clipped for signs: of several tensors put together, each."""
    passed: tuple[type[nn.Module], ...] = (Half,)
    if isinstance(called_module(graph, node), BinaryLayer):
        passed = (Half, nn.Hardtanh)

    def parts(one: fx.Node) -> list[fx.Node]:
        while isinstance(called_module(graph, one), passed):
            one = one.all_input_nodes[0]
        if one.target not in _ONE_BY_ONE:
            return [one]
        return [part for source in one.all_input_nodes for part in parts(source)]

    return parts(node.all_input_nodes[0])


def _behind(graph: fx.GraphModule, starts: list[fx.Node]) -> set[fx.Node]:
    """Nodes whose values depend on those of `starts`, these among them."""
    found = set(starts)
    for node in graph.graph.nodes:
        if node.target not in _CONSTANT and any(one in found for one in node.all_input_nodes):
            found.add(node)
    return found
