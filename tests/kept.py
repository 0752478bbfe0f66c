"""Slow processes that outlive a compilation: they are started once a test process, not once a model."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from bhpe_compile.compiler import code_cache, workers
from bhpe_compile.compiler.code_cache import CodeCache, KeptCode
from bhpe_compile.compiler.workers import Workers
from bhpe_compile.exchange import simplify
from bhpe_compile.processes import child_environment, python_command
from tests.shared import made_once


class KeptPair:
    """A pair of code generation workers that outlives a compilation: TVM is imported once."""

    def __init__(self) -> None:
        self._pair: Workers | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """They stay, for the next one."""

    def start(self) -> None:
        """They are started with the first job."""

    def run(self, jobs: Sequence[Any], done: Callable[[int], None] = lambda _: None) -> list[Any]:
        """As `Workers.run`; after an error the pair is another one, because answers may be on their way."""
        self._pair = self._pair or Workers()
        try:
            return self._pair.run(jobs, done)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """End the processes."""
        if self._pair is not None:
            self._pair.__exit__(None, None, None)
            self._pair = None


class KeptWorkers:
    """The pair of this process, asked for what the code cache of the run does not hold."""

    def __init__(self, pair: KeptPair) -> None:
        self._pair = pair

    def run(self, jobs: Sequence[Any], done: Callable[[int], None] = lambda _: None) -> list[Any]:
        """As `Workers.run`."""
        return KeptCode(self._pair, CodeCache.of_user()).run(jobs, done)


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


@pytest.fixture(scope="session", autouse=True)
def shared_code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Machine code is made once a run, by whatever process; the user's cache is neither read nor filled."""
    folder = made_once(tmp_path_factory, "code", lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(code_cache.VARIABLE, str(folder))
        yield folder


@pytest.fixture
def no_code_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine code is made, whether it was made before or not."""
    monkeypatch.setenv(code_cache.VARIABLE, code_cache.OFF)


@pytest.fixture(scope="session", autouse=True)
def kept_pair(shared_code: Path) -> Iterator[KeptPair]:
    """Compilations in this process share one pair of workers."""
    kept = KeptPair()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "Workers", lambda: kept)
        yield kept
    kept.end()


@pytest.fixture(scope="session")
def kept_workers(kept_pair: KeptPair) -> KeptWorkers:
    """The same, for tests that generate code themselves."""
    return KeptWorkers(kept_pair)


@pytest.fixture(scope="session", autouse=True)
def shared_simplifier() -> Iterator[None]:
    """Compilations in this process share one process of onnxsim."""
    kept = KeptSimplifier()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simplify, "Simplifier", lambda: kept)
        yield
    kept.end()
