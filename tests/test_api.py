"""The Python interface: light to import, typed, and the same as the commands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import bhpe_compile
from bhpe_compile.errors import BhpeError
from bhpe_compile.processes import python_command
from tests.command import environment

MODEL = Path(bhpe_compile.__file__).parent / "data" / "model.pt"
HEAVY = ("torch", "tvm", "numpy", "onnx", "click", "rich")


def test_import_is_light() -> None:
    script = "import sys, bhpe_compile; sys.stdout.write(' '.join(sys.modules))"
    done = subprocess.run(
        python_command("-c", script), env=environment(), capture_output=True, text=True, check=True
    )
    modules = done.stdout.split()
    assert set(modules).isdisjoint(HEAVY)
    assert len(modules) < 100


def test_every_name_is_there() -> None:
    for name in bhpe_compile.__all__:
        assert getattr(bhpe_compile, name) is not None
        assert name in dir(bhpe_compile)
    assert issubclass(bhpe_compile.UsageError, BhpeError)
    with pytest.raises(AttributeError, match="nothing"):
        _ = bhpe_compile.nothing  # type: ignore[attr-defined]


def test_errors_are_those_of_the_commands(tmp_path: Path) -> None:
    with pytest.raises(bhpe_compile.UsageError, match="no such artefact"):
        bhpe_compile.load_artifact(tmp_path / "none")
    with pytest.raises(bhpe_compile.UsageError, match="no such file"):
        bhpe_compile.compile_model(tmp_path / "none.pt", target="x86")
    with pytest.raises(bhpe_compile.UsageError, match="holds no picture"):
        bhpe_compile.compile_model(MODEL, target="x86", calibrate=[tmp_path])
    (tmp_path / "a").mkdir()
    with pytest.raises(bhpe_compile.InputError, match="not a compiled model"):
        bhpe_compile.load_artifact(str(tmp_path / "a"))
