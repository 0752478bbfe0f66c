"""The example and its compiled forms, made once by the real command line and only read by the tests."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from bhpe_compile.compiler import workers
from bhpe_compile.compiler.workers import Workers
from tests.command import Outcome, bhpe
from tests.shared import made_once


@dataclass(frozen=True)
class Compiled:
    """An artefact, what the command printed and how long it took, Python's start included."""

    folder: Path
    outcome: Outcome
    seconds: float


def compile_example(model: Path, target: str, factory: pytest.TempPathFactory, *words: str) -> Compiled:
    """Compile for `target`, with more `words`; the test fails here, with what was printed, when the command does."""

    def make(folder: Path) -> None:
        start = time.perf_counter()
        outcome = bhpe(model, "--target", target, *words, "-o", folder / name, "--format", "json")
        assert outcome.code == 0, outcome.stderr
        printed = {**asdict(outcome), "seconds": time.perf_counter() - start}
        (folder / "outcome.json").write_text(json.dumps(printed))

    name = f"{model.stem}-{target}"
    folder = made_once(factory, f"compiled-{name}", make)
    printed = json.loads((folder / "outcome.json").read_text())
    return Compiled(
        folder / name, Outcome(printed["code"], printed["stdout"], printed["stderr"]), printed["seconds"]
    )


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
def compiled_web(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The embedded student of `distill` for browsers."""
    return compile_example(example / "model-bidrn.pt", "wasm32", tmp_path_factory, "--form", "web")


class KeptWorkers:
    """A pair of code generation workers that outlives a compilation: TVM is imported once.

    What a job gives depends on nothing but the job, which `test_twice_in_one_process_gives_the_same_bytes` sees to
    after `forget`; so a job that was done is not done again.
    """

    def __init__(self) -> None:
        self._pair: Workers | None = None
        self._made: dict[bytes, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """They stay, for the next one."""

    def run(self, jobs: Sequence[Any], done: Callable[[int], None] = lambda _: None) -> list[Any]:
        """As `Workers.run`; after an error the pair is another one, because answers may be on their way."""
        self._pair = self._pair or Workers()
        keys = [pickle.dumps(job) for job in jobs]
        new = [(key, job) for key, job in zip(keys, jobs, strict=True) if key not in self._made]
        before = len(jobs) - len(new)
        try:
            results = self._pair.run([job for _, job in new], lambda count: done(before + count))
        except BaseException:
            self.end()
            raise
        self._made |= dict(zip((key for key, _ in new), results, strict=True))
        return [self._made[key] for key in keys]

    def forget(self) -> None:
        """Do every job anew."""
        self._made.clear()

    def end(self) -> None:
        """End the processes."""
        if self._pair is not None:
            self._pair.__exit__(None, None, None)
            self._pair = None


@pytest.fixture(scope="session")
def kept_workers() -> Iterator[KeptWorkers]:
    """The pair of this process."""
    kept = KeptWorkers()
    yield kept
    kept.end()


@pytest.fixture(scope="module")
def shared_workers(kept_workers: KeptWorkers) -> Iterator[None]:
    """Compilations in this process share one pair of workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "Workers", lambda: kept_workers)
        yield
