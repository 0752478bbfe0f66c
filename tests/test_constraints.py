"""constraints.txt names everything that the project's extras bring, in the versions that are installed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.command import ROOT

CUDA = re.compile(r"nvidia-|cuda-|triton$")
"""What the CUDA build of torch brings; torch itself says which versions."""


def pinned() -> dict[str, Version]:
    """Versions by normalised name."""
    lines = (line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def asked() -> list[Requirement]:
    """The requirements of pyproject.toml, those of every extra included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = (project["dependencies"], *project["optional-dependencies"].values())
    return [Requirement(line) for one in lists for line in one]


def installed(requirements: list[Requirement]) -> Iterator[tuple[str, Version]]:
    """What of them is installed, with all that it needs in turn; extras that are not installed are left out."""
    waiting, seen = list(requirements), set()
    while waiting:
        one = waiting.pop()
        key = (canonicalize_name(one.name), frozenset(one.extras))
        if key in seen or CUDA.match(key[0]):
            continue
        seen.add(key)
        try:
            found = Distribution.from_name(one.name)
        except PackageNotFoundError:
            continue
        yield key[0], Version(found.version)
        for line in found.requires or ():
            needed = Requirement(line)
            extras = one.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)


def test_everything_installed_is_pinned() -> None:
    pins = pinned()
    found = dict(installed(asked()))
    assert {"torch", "onnx", "pytest", "markupsafe"} <= found.keys()  # needed by us, and by what we need
    wrong = {
        name: f"{version.public} is installed, constraints.txt says {pins.get(name, 'nothing')}"
        for name, version in found.items()
        if name not in pins or pins[name].public != version.public
    }
    assert wrong == {}


def test_everything_asked_for_is_pinned_within_its_bounds() -> None:
    pins = pinned()
    for one in asked():
        assert pins[canonicalize_name(one.name)] in one.specifier, one
