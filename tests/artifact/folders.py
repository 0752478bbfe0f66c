"""Artefact folders of the small program, made by the real writer, for the tests of artifact and runtime."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from bhpe_compile.artifact import save, write_artifact
from bhpe_compile.artifact.link import Linked, link
from bhpe_compile.targets import Target, get_target, host_runs
from tests.artifact.programs import expected, small_program, some_input

HOST: Target = next((t for t in map(get_target, ("x86", "arm")) if host_runs(t)), get_target("x86"))
"""A target that this machine runs."""

on_host = pytest.mark.skipif(not host_runs(HOST), reason="this machine runs none of the targets")


@cache
def linked(name: str, seed: int) -> Linked:
    """The small program, linked once for each target and seed."""
    return link(small_program(get_target(name), seed), get_target(name))


def write(folder: Path, target: Target = HOST, seed: int = 0, force: bool = False) -> Path:
    """An artefact of the small program in `folder`."""
    results = expected(some_input(), seed)
    reference = {"x": some_input(), "out": results["out"], "sign": results["sign"]}
    info = {"passes": [{"name": "none"}], "options": {"scheme": "bidrn"}}
    program = small_program(target, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(save, "link", lambda *_, **__: linked(target.name, seed))
        write_artifact(folder, program, target, b"an onnx model", {"layers": []}, reference, info, force)
    return folder
