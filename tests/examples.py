"""The example and its compiled forms, made once by the real command line and only read by the tests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from bhpe_compile.compiler import workers
from bhpe_compile.compiler.workers import Workers
from bhpe_compile.files import write_atomically
from tests.command import Outcome, bhpe, inside
from tests.shared import made_once


@dataclass(frozen=True)
class Compiled:
    """An artefact and what the command printed."""

    folder: Path
    outcome: Outcome


def compile_example(
    model: Path, target: str, factory: pytest.TempPathFactory, command: Callable[..., Outcome] = inside
) -> Compiled:
    """Compile for `target`; the test fails here, with what was printed, when the command does."""

    def make(folder: Path) -> None:
        outcome = command(model, "--target", target, "-o", folder / name, "--format", "json")
        assert outcome.code == 0, outcome.stderr
        (folder / "outcome.json").write_text(json.dumps(asdict(outcome)))

    name = f"{model.stem}-{target}"
    folder = made_once(factory, f"compiled-{name}", make)
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
    """The example for x86, by the command in a process of its own."""
    return compile_example(example / "model.pt", "x86", tmp_path_factory, bhpe)


@pytest.fixture(scope="session")
def compiled_arm(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The example for AArch64."""
    return compile_example(example / "model.pt", "arm", tmp_path_factory)


@pytest.fixture(scope="session")
def compiled_bidrn(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The embedded student of `distill` for x86."""
    return compile_example(example / "model-bidrn.pt", "x86", tmp_path_factory)


class KeptWorkers:
    """A pair of code generation workers that outlives a compilation: TVM is imported once.

    What a job gives depends on nothing but the job, which the tests that use `anew` see to; so a job that was done is
    not done again, and `folder` keeps it for the other processes of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pair: Workers | None = None
        self._anew = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """They stay, for the next one."""

    @contextlib.contextmanager
    def anew(self) -> Iterator[None]:
        """Every job is done, whether it was done before or not."""
        self._anew = True
        try:
            yield
        finally:
            self._anew = False

    def run(self, jobs: Sequence[Any], done: Callable[[int], None] = lambda _: None) -> list[Any]:
        """As `Workers.run`; after an error the pair is another one, because answers may be on their way."""
        files = [self._folder / hashlib.sha256(pickle.dumps(job)).hexdigest() for job in jobs]
        new = [(file, job) for file, job in zip(files, jobs, strict=True) if self._anew or not file.exists()]
        before = len(jobs) - len(new)
        if new:
            self._pair = self._pair or Workers()
            try:
                results = self._pair.run([job for _, job in new], lambda count: done(before + count))
            except BaseException:
                self.end()
                raise
            for (file, _), result in zip(new, results, strict=True):
                write_atomically(file, pickle.dumps(result))
        return [pickle.loads(file.read_bytes()) for file in files]

    def end(self) -> None:
        """End the processes."""
        if self._pair is not None:
            self._pair.__exit__(None, None, None)
            self._pair = None


@pytest.fixture(scope="session")
def kept_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeptWorkers]:
    """The pair of this process."""
    kept = KeptWorkers(made_once(tmp_path_factory, "generated", lambda _: None))
    yield kept
    kept.end()


@pytest.fixture(scope="session", autouse=True)
def shared_workers(kept_workers: KeptWorkers) -> Iterator[None]:
    """Compilations in this process share one pair of workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "Workers", lambda: kept_workers)
        yield


@pytest.fixture
def kernel_by_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kernel is a job of its own, so that networks and schemes share the code of the kernels they share."""
    from bhpe_compile.passes import lower

    monkeypatch.setattr(lower, "PARTS", 1000)
