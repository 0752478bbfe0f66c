"""Imports go down the storeys of docs/architecture.md, those inside functions and for types included."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.command import ROOT

STOREYS = (
    ("cli",),
    ("api",),
    ("check", "search"),
    ("compiler",),
    ("report",),
    ("distill",),
    ("frontends",),
    ("passes", "exchange", "evaluate"),
    ("kernels", "runtime"),
    ("artifact",),
    ("networks", "targets"),
    ("errors", "files", "processes", "reading", "reading_arrays", "text", "__version__"),
)
"""The uppermost first; parts of one storey may import each other. The longest name that fits says where a module is."""

PLACE = {name: depth for depth, names in enumerate(STOREYS) for name in names}


def depth_of(module: str) -> int:
    """How far down `module`, named without the package, is."""
    parts = module.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next(PLACE[name] for name in names if name in PLACE)


def imports(source: str) -> Iterator[str]:
    """Modules of this package that `source` imports, named without it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "bhpe_compile":
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bhpe_compile."):
            yield (node.module or "").removeprefix("bhpe_compile.")
        elif isinstance(node, ast.Import):
            yield from (
                one.name.removeprefix("bhpe_compile.")
                for one in node.names
                if one.name.startswith("bhpe_compile.")
            )


def test_imports_go_down() -> None:
    up = []
    for path in sorted((ROOT / "bhpe_compile").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / "bhpe_compile").with_suffix("").parts)
        if module == "__init__" or module.startswith("data"):  # the package's front door; pictures
            continue
        here = depth_of(module)
        up += [f"{module} imports {name}" for name in imports(path.read_text()) if depth_of(name) < here]
    assert up == []


def test_what_goes_up_is_seen() -> None:
    source = "def run():\n    from bhpe_compile.compiler.pipeline import compile_model\n"
    (name,) = imports(source)
    assert depth_of(name) < depth_of("runtime.model")


def test_every_storey_exists() -> None:
    for name in PLACE:
        place = ROOT / "bhpe_compile" / name.replace(".", "/")
        assert name == "__version__" or place.is_dir() or place.with_suffix(".py").is_file(), name
