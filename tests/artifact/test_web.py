"""The form for browsers: which files there are, what package.json says, what is refused."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from bhpe_compile.artifact import check_artifact, write_artifact
from bhpe_compile.artifact.manifest import ABI_VERSION, MANIFEST
from bhpe_compile.artifact.web import PACKAGE, SOURCES, TYPES, check_web_family, read_site, web_files
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.networks.interface import Interface
from bhpe_compile.reading import read_toml
from bhpe_compile.targets import get_target
from tests.artifact.programs import small_program
from tests.command import ROOT, inside

IDENTITY = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = get_target("wasm32")
    place = tmp_path_factory.mktemp("web") / "model"
    write_artifact(place, small_program(target), target, b"", {}, None, {}, web=True)
    return place


def test_the_manifest_lists_every_file(folder: Path) -> None:
    manifest = check_artifact(folder)
    assert set(PACKAGE) <= {*manifest["files"], MANIFEST}


def test_the_server_gets_these_files_and_no_others(folder: Path) -> None:
    site = read_site(folder)
    assert set(site) == set(PACKAGE)
    assert all(Path(name).suffix in TYPES for name in site)
    assert site["model.wasm"] == (folder / "model.wasm").read_bytes()


def test_a_changed_file_is_not_served(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "page.js").write_text("alert(1)")
    with pytest.raises(InputError, match=r"page\.js"):
        read_site(tmp_path)


def test_package(folder: Path) -> None:
    described = json.loads((folder / "package.json").read_text())
    identity = json.loads((folder / MANIFEST).read_text())["model_id"]
    assert described["name"] == "bhpe-model"
    assert described["version"] == f"0.0.0-h{identity[:12]}"
    assert described["private"] is True
    assert {*described["files"], "package.json"} == set(PACKAGE)
    for entry in described["exports"].values():
        for file in [entry] if isinstance(entry, str) else entry.values():
            assert (folder / file).exists()


def test_names_that_npm_takes() -> None:
    interface = Interface(network="Hand4Whole/ö", preset="Tiny V2")
    assert json.loads(web_files(interface, IDENTITY)["package.json"])["name"] == "bhpe-hand4whole-tiny-v2"


def test_the_module_is_of_this_interface() -> None:
    found = re.search(r"^const ABI = (\d+);", (SOURCES / "model.js").read_text(), re.MULTILINE)
    assert found is not None
    assert int(found[1]) == ABI_VERSION


def test_sources_are_shipped() -> None:
    """What is no Python file is in a wheel only where pyproject.toml says so."""
    listed = read_toml(ROOT / "pyproject.toml")["tool"]["setuptools"]["package-data"]["bhpe_compile"]
    package = ROOT / "bhpe_compile"
    others = [
        str(path.relative_to(package))
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert "artifact/web/model.js" in others
    assert [name for name in others if not any(fnmatch(name, pattern) for pattern in listed)] == []


def test_other_targets_are_refused(tmp_path: Path) -> None:
    check_web_family("wasm32")
    with pytest.raises(UsageError, match="browsers run WebAssembly only"):
        check_web_family("x86_64")
    outcome = inside(
        ROOT / "bhpe_compile/data/model.pt", "--target", "x86", "--form", "web", "-o", tmp_path / "out"
    )
    assert outcome.code == 2
    assert outcome.stderr == (
        "error: x86_64: browsers run WebAssembly only; compile with --target wasm32 --form web\n"
    )
