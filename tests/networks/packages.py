"""Packages that bring networks, as an installer leaves them: a module and a .dist-info folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bhpe_compile.networks.registry import GROUP


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
