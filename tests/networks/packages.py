"""Packages that bring networks, as an installer leaves them: modules and a .dist-info folder on the path."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bhpe_compile.networks.registry import GROUP, registered


def install(site: Path, name: str, version: str, entry_points: Mapping[str, str], **modules: str) -> Path:
    """Put the package `name` with these entry points and modules (name -> source) into the folder `site`."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = (f"{entry} = {value}\n" for entry, value in entry_points.items())
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{''.join(lines)}")
    for module, source in modules.items():
        (site / f"{module}.py").write_text(source)
    return site


def install_folder(folder: Path) -> None:
    """Install the package whose pyproject.toml lies in `folder`, in place."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    install(folder, project["name"], project["version"], project["entry-points"][GROUP])


@contextmanager
def on_path(site: Path) -> Iterator[None]:
    """`site` is on the path of this process; what was imported from it is forgotten at the end."""
    before = set(sys.modules)
    sys.path.insert(0, str(site))
    registered.cache_clear()
    try:
        yield
    finally:
        sys.path.remove(str(site))
        registered.cache_clear()
        for name in set(sys.modules) - before:
            held = vars(sys.modules[name])  # not getattr: some modules answer whatever they are asked
            places = (str(held.get("__file__")), *map(str, held.get("__path__") or ()))
            if any(place.startswith(str(site)) for place in places):
                del sys.modules[name]
