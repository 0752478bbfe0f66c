"""A network is data: outside its own folder, and what evaluates its body, no code knows one by name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import bhpe_compile

ROOT = Path(bhpe_compile.__file__).parent

NAME = re.compile(r"hand4whole|box_?net", re.IGNORECASE)

ELSEWHERE = ("networks/hand4whole/", "evaluate/")

ALLOWED = {
    ("networks/registry.py", "hand4whole"),  # the first network: files of the first version, --preset
    ("passes/binarize/options.py", "binary_box_net"),  # a field's name in older checkpoints
}
"""(file, text) that may decide something."""


def texts(source: str) -> Iterator[str]:
    """String constants and names of a module, without docstrings, help texts and summaries for people."""
    tree = ast.parse(source)
    people: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            people.add(node.value)
        elif isinstance(node, ast.keyword) and node.arg == "help":
            people.update(ast.walk(node.value))
        elif isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "summary" for t in node.targets):
            people.add(node.value)
    for node in ast.walk(tree):
        if node in people:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Name | ast.Attribute):
            yield node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_no_code_knows_a_network_by_name() -> None:
    found = {
        (str(path.relative_to(ROOT)), text)
        for path in ROOT.rglob("*.py")
        if not str(path.relative_to(ROOT)).startswith(ELSEWHERE)
        for text in texts(path.read_text())
        if NAME.search(text)
    }
    assert found == ALLOWED


def test_no_c_source_mentions_one() -> None:
    sources = [path for path in ROOT.rglob("*") if path.suffix in (".c", ".h", ".hpp", ".j2", ".js", ".css")]
    assert len(sources) > 10
    assert [path.name for path in sources if NAME.search(path.read_text())] == []


def test_names_are_found_where_they_are() -> None:
    source = '"""Hand4Whole."""\nfrom a.hand4whole import b\nif name == "box_net":\n    pass\n'
    assert [text for text in texts(source) if NAME.search(text)] == ["a.hand4whole", "box_net"]
