"""The example and its compiled forms, made once by the command line and only read by the tests."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tests.command import Outcome, bhpe, inside
from tests.shared import made_once


@dataclass(frozen=True)
class Compiled:
    """An artefact and what the command printed."""

    folder: Path
    outcome: Outcome


def compile_example(model: Path, target: str, factory: pytest.TempPathFactory, *words: str) -> Compiled:
    """Compile for `target`, with more `words`; the test fails here, with what was printed, when the command does."""

    def make(folder: Path) -> None:
        outcome = inside(model, "--target", target, *words, "-o", folder / name, "--format", "json")
        assert outcome.code == 0, outcome.stderr
        (folder / "outcome.json").write_text(json.dumps(asdict(outcome)))

    name = f"{model.stem}-{target}"
    folder = made_once(factory, "-".join(("compiled", name, *words)), make)
    return Compiled(folder / name, Outcome(**json.loads((folder / "outcome.json").read_text())))


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `bhpe-compile example` writes."""

    def make(folder: Path) -> None:
        outcome = bhpe("example", folder / "demo")
        assert outcome.code == 0, outcome.stderr

    return made_once(tmp_path_factory, "example", make) / "demo"


@pytest.fixture(scope="session")
def compiled(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The example for x86."""
    return compile_example(example / "model.pt", "x86", tmp_path_factory)


@pytest.fixture(scope="session")
def compiled_arm(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The example for AArch64."""
    return compile_example(example / "model.pt", "arm", tmp_path_factory)


@pytest.fixture(scope="session")
def compiled_bidrn(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The embedded student of `distill` for x86."""
    return compile_example(example / "model-bidrn.pt", "x86", tmp_path_factory)


@pytest.fixture(scope="session")
def compiled_bidrn_arm(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The embedded student for AArch64."""
    return compile_example(example / "model-bidrn.pt", "arm", tmp_path_factory)


@pytest.fixture(scope="session")
def compiled_int8(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The example in 8 bits for x86."""
    return compile_example(example / "model.pt", "x86", tmp_path_factory, "--scheme", "int8")


@pytest.fixture(scope="session")
def compiled_int8_armv7(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The example in 8 bits for 32-bit ARM."""
    return compile_example(example / "model.pt", "armv7", tmp_path_factory, "--scheme", "int8")


@pytest.fixture(scope="session")
def compiled_web(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The embedded student of `distill` for browsers."""
    return compile_example(example / "model-bidrn.pt", "wasm32", tmp_path_factory, "--form", "web")
