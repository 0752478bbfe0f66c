"""Imports go down the storeys of docs/architecture.md and never in a circle, those inside functions and for types
included."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.command import ROOT

STOREYS = (
    ("cli",),
    ("api",),
    ("check", "search"),
    ("compiler",),
    ("networks.hand4whole", "networks.hmr", "networks.cliff", "networks.rtmpose", "networks.vqhps"),
    ("report",),
    ("distill",),
    ("frontends",),
    ("passes", "exchange", "evaluate"),
    ("kernels", "runtime"),
    ("artifact",),
    ("networks", "targets"),
    (
        "archive",
        "cache",
        "errors",
        "files",
        "processes",
        "reading",
        "reading_arrays",
        "reading_onnx",
        "text",
        "__version__",
    ),
)
"""The uppermost first; parts of one storey may import each other. The longest name that fits says where a module is."""

PLACE = {name: depth for depth, names in enumerate(STOREYS) for name in names}


def depth_of(module: str) -> int:
    """How far down `module`, named without the package, is."""
    parts = module.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next(PLACE[name] for name in names if name in PLACE)


def modules(package: Path) -> dict[str, Path]:
    """The modules of a package, named without it; not its front door, which imports what it offers when asked."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name and parts[0] != "data":  # pictures
            found[name] = path
    return found


def imports(source: str) -> Iterator[str]:
    """What `source` imports of this package, named without it: modules, or names in them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "bhpe_compile":
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bhpe_compile."):
            module = (node.module or "").removeprefix("bhpe_compile.")
            yield from (f"{module}.{one.name}" for one in node.names)
        elif isinstance(node, ast.Import):
            yield from (
                one.name.removeprefix("bhpe_compile.")
                for one in node.names
                if one.name.startswith("bhpe_compile.")
            )


def graph(package: Path) -> dict[str, set[str]]:
    """The modules that each module of a package imports."""
    paths = modules(package)
    return {
        module: {
            next((found for found in (name, name.rpartition(".")[0]) if found in paths), name)
            for name in imports(path.read_text())
        }
        for module, path in paths.items()
    }


def circle(imported: Mapping[str, set[str]]) -> list[str]:
    """Modules each of which imports the one before, the first being the last as well; [] where there is no circle."""
    try:
        TopologicalSorter(imported).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_imports_go_down() -> None:
    up = [
        f"{module} imports {name}"
        for module, names in graph(ROOT / "bhpe_compile").items()
        for name in sorted(names)
        if depth_of(name) < depth_of(module)
    ]
    assert up == []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle(graph(ROOT / "bhpe_compile")) == []


@pytest.mark.parametrize(
    "back",
    [
        "from bhpe_compile.runtime import model\n",
        "def run():\n    from bhpe_compile.runtime.model import Model\n",
        "if TYPE_CHECKING:\n    import bhpe_compile.runtime.model\n",
    ],
)
def test_a_circle_is_seen(tmp_path: Path, back: str) -> None:
    folder = tmp_path / "runtime"
    folder.mkdir()
    (folder / "model.py").write_text("from bhpe_compile.runtime.session import Session\n")
    (folder / "session.py").write_text("from bhpe_compile.errors import InputError\n")
    (tmp_path / "errors.py").write_text("")
    assert circle(graph(tmp_path)) == []
    (folder / "session.py").write_text(back)
    assert set(circle(graph(tmp_path))) == {"runtime.model", "runtime.session"}


def test_what_goes_up_is_seen() -> None:
    source = "def run():\n    from bhpe_compile.compiler.compile import compile_model\n"
    (name,) = imports(source)
    assert name == "compiler.compile.compile_model"
    assert depth_of(name) < depth_of("runtime.model")


def test_every_storey_exists() -> None:
    for name in PLACE:
        place = ROOT / "bhpe_compile" / name.replace(".", "/")
        assert name == "__version__" or place.is_dir() or place.with_suffix(".py").is_file(), name
