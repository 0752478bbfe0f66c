"""Passes in order: what they require and ensure, and what an error says of the place where it was raised."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.plan import PassInfo, list_passes
from bhpe_compile.errors import InputError
from bhpe_compile.passes.base import Pass, PassManager, PassOrderError, PassResult, ensured_by

CHOICES = [
    CompileOptions("x86"),
    CompileOptions("x86", dense="fp32", residual="fp32"),
    CompileOptions("x86", scheme="float"),
    CompileOptions("x86", scheme="int8"),
]


def missing(passes: list[PassInfo]) -> list[tuple[str, str]]:
    """(pass, word) of everything that is required and that no earlier pass ensures."""
    ensured: set[str] = set()
    found = []
    for one in passes:
        found += [(one.name, word) for word in one.requires if word not in ensured]
        ensured |= set(one.ensures)
    return found


@pytest.mark.parametrize("options", [None, *CHOICES])
def test_what_a_pass_requires_is_ensured_by_an_earlier_pass(options: CompileOptions | None) -> None:
    assert missing(list_passes(options)) == []


def test_the_order_matters() -> None:
    """Where the test above would pass in any order it would test nothing."""
    assert len(missing(list_passes()[::-1])) > 10


def test_what_a_pass_ensures_is_required_by_a_later_pass() -> None:
    passes = list_passes()
    for index, one in enumerate(passes):
        later = {word for other in passes[index + 1 :] for word in other.requires}
        assert set(one.ensures) <= later, one.name


def test_names_are_words_joined_by_dashes() -> None:
    names = [one.name for one in list_passes()]
    assert [name for name in names if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name)] == []
    assert len(set(names)) == len(names)


@dataclass
class Node:
    name: str


class Count(Pass[list[Node]]):
    """Counts nodes; fails at one called "bad"."""

    name = "count"
    summary = "counts"
    ensures = ("counted",)

    def __init__(self, error: Exception) -> None:
        self.error = error

    def call(self, graph: list[Node]) -> PassResult[list[Node]]:
        notes = []
        for node in self.visit(graph):
            if node.name == "bad":
                raise self.error
            notes.append(self.applied(node.name, "counted"))
        if len(graph) > 2:
            raise self.error
        return PassResult(graph, False, tuple(notes))


class Use(Pass[list[Node]]):
    name = "use"
    summary = "uses"
    requires = ("counted",)

    def call(self, graph: list[Node]) -> PassResult[list[Node]]:
        return PassResult(graph, False)


@pytest.mark.parametrize("error", [InputError("odd"), KeyError("odd"), TypeError("odd")])
def test_every_error_names_the_pass_and_the_node(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        PassManager([Count(error), Count(error)]).run([Node("good"), Node("bad")])
    assert caught.value.__notes__ == ["in pass count, at bad", "passes already run: none"]


def test_an_error_outside_of_the_nodes_names_the_pass_alone() -> None:
    with pytest.raises(KeyError) as caught:
        Count(KeyError())([Node("a"), Node("b"), Node("c")])
    assert caught.value.__notes__ == ["in pass count"]


def test_a_second_stage_knows_what_the_first_ensured() -> None:
    ensured: set[str] = set()
    with pytest.raises(PassOrderError, match="use needs counted"):
        PassManager([Use()], ensured).run([])
    PassManager([Count(ValueError())], ensured).run([])
    PassManager([Use()], ensured).run([])
    assert ensured == ensured_by([Count(ValueError())]) == {"counted"}
