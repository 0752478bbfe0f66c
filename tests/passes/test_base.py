"""The pass manager: order, what it remembers, what errors carry."""

from __future__ import annotations

from typing import ClassVar

import pytest

from bhpe_compile.errors import InputError
from bhpe_compile.passes.base import Note, Pass, PassManager, PassOrderError, PassRecord, PassResult

Words = list[str]


class Add(Pass[Words]):
    """Appends a word; or refuses."""

    name: ClassVar[str] = "add"
    summary: ClassVar[str] = "append a word"

    def __init__(
        self, word: str, needs: tuple[str, ...] = (), gives: tuple[str, ...] = (), fails: bool = False
    ) -> None:
        self.word, self.fails = word, fails
        self.name, self.requires, self.ensures = f"add-{word}", needs, gives  # type: ignore[misc]

    def call(self, graph: Words) -> PassResult[Words]:
        if self.fails:
            raise InputError(f"no {self.word}")
        notes = (self.applied(self.word, "appended"), self.refused("other", "not asked for"))
        return PassResult([*graph, self.word], bool(self.word), notes)


def test_passes_run_in_order_on_what_the_last_one_gave() -> None:
    manager = PassManager([Add("a"), Add(""), Add("b")])
    seen: list[tuple[str, bool, Words]] = []
    assert manager.run(["x"], lambda record, graph: seen.append((record.name, record.modified, graph))) == [
        *("x", "a", "", "b")
    ]
    assert seen == [
        ("add-a", True, ["x", "a"]),
        ("add-", False, ["x", "a", ""]),
        ("add-b", True, ["x", "a", "", "b"]),
    ]
    assert [record.name for record in manager.records] == ["add-a", "add-", "add-b"]
    assert all(isinstance(record, PassRecord) and 0 <= record.seconds < 60 for record in manager.records)
    assert manager.notes == tuple(
        Note(f"add-{word}", *rest)
        for word in ("a", "", "b")
        for rest in ((word, True, "appended"), ("other", False, "not asked for"))
    )


def test_nobody_need_watch() -> None:
    assert PassManager([Add("a")]).run([]) == ["a"]
    assert PassManager([]).run(["x"]) == ["x"]


def test_a_pass_needs_what_an_earlier_one_ensures() -> None:
    first, second = Add("a", gives=("flat", "dry")), Add("b", needs=("flat", "dry"))
    assert PassManager([first, second]).run([]) == ["a", "b"]
    manager = PassManager([second, first])
    with pytest.raises(PassOrderError, match=r"^pass add-b needs flat, dry, which no earlier pass ensures$"):
        manager.run([])
    assert manager.records == []
    assert PassManager([second], established={"dry", "flat"}).run([]) == ["b"]
    with pytest.raises(PassOrderError, match=r"^pass add-b needs dry, which"):
        PassManager([second], established={"flat"}).run([])


@pytest.mark.parametrize(("before", "names"), [([], "none"), (["a"], "add-a"), (["a", "c"], "add-a, add-c")])
def test_errors_carry_the_passes_already_run(before: Words, names: str) -> None:
    manager = PassManager([*map(Add, before), Add("b", fails=True)])
    with pytest.raises(InputError, match="no b") as caught:
        manager.run([])
    assert caught.value.__notes__ == [f"in pass add-b; passes already run: {names}"]
