"""Slow processes that outlive a compilation: they are started once a test process, not once a model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from bhpe_compile.compiler import workers
from bhpe_compile.compiler.workers import Workers
from bhpe_compile.exchange import simplify
from bhpe_compile.files import write_atomically
from bhpe_compile.processes import child_environment, python_command
from tests.shared import made_once


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


SIMPLIFIER = """
import io, json, os, sys, traceback
requests, answers = sys.stdin, os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
script = compile(sys.argv[1], "onnxsim", "exec")
for line in requests:
    sys.stdin, problem = io.StringIO(json.loads(line)), None
    try:
        exec(script, {})
    except SystemExit as end:
        problem = str(end.code)
    except Exception as error:
        problem = traceback.format_exception_only(error)[-1].strip()
    print(json.dumps(problem), file=answers, flush=True)
"""
"""Does what the process of a `Simplifier` does, again and again."""


class KeptSimplifier:
    """A `Simplifier` that is good for many models: onnxsim is imported once."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """It stays, for the next model."""

    def run(self, source: Path, target: Path) -> str | None:
        """As `Simplifier.run`; a crash fails the test that met it."""
        if self._process is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="bhpe-onnxsim-")
            self._process = subprocess.Popen(
                python_command("-c", SIMPLIFIER, simplify._SCRIPT),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=child_environment(TMPDIR=self._temporary.name),
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(f"{source}\0{target}"), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            self.end()
            pytest.fail("onnxsim crashed")
        problem: str | None = json.loads(answer)
        return problem

    def end(self) -> None:
        """End the process."""
        if self._process is not None and self._temporary is not None:
            self._process.kill()
            self._temporary.cleanup()
            self._process.communicate()
            self._process = None


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


@pytest.fixture(scope="session", autouse=True)
def shared_simplifier() -> Iterator[None]:
    """Compilations in this process share one process of onnxsim."""
    kept = KeptSimplifier()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simplify, "Simplifier", lambda: kept)
        yield
    kept.end()


@pytest.fixture
def kernel_by_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kernel is a job of its own, so that networks and schemes share the code of the kernels they share."""
    from bhpe_compile.passes import lower

    monkeypatch.setattr(lower, "PARTS", 1000)
