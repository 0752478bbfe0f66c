"""Code generation in processes of its own.

Importing TVM takes seconds and LLVM runs for seconds more; both use one core. Two workers share the kernels between
them. They are started before the model is exported, so TVM is there when it is needed, or with the first job. What
TVM and LLVM print goes to a file, and a crash of theirs is an error here, not the end of the program.

A worker reads pickled requests (function name, arguments) from its standard input and answers (True, result) or
(False, kind, message), until the input ends. Both ends are this program.
"""

from __future__ import annotations

import os
import pickle
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self, cast

from bhpe_compile.errors import BhpeError, InputError, ToolchainError, UsageError
from bhpe_compile.processes import child_environment, our_command

if TYPE_CHECKING:
    from bhpe_compile.passes.lower import Job

ERRORS: dict[str, type[BhpeError]] = {
    e.__name__: e for e in (BhpeError, InputError, ToolchainError, UsageError)
}

FUNCTIONS = ("generate_glue", "generate_kernel")
"""Functions of `passes.lower.tasks` that may be asked for."""


class Worker:
    """One process; `submit` and then `result`."""

    def __init__(self) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the worker)
        self._process = subprocess.Popen(
            our_command("bhpe_compile.compiler.workers", "serve"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=child_environment(),
        )

    def fileno(self) -> int:
        """The pipe the answers come through, for a selector."""
        assert self._process.stdout is not None  # opened as a pipe above
        return self._process.stdout.fileno()

    def submit(self, function: str, *arguments: Any) -> None:
        """Send a request; the worker starts on it at once."""
        assert self._process.stdin is not None  # opened as a pipe above
        with suppress(BrokenPipeError):  # the worker has died: `result` tells why
            pickle.dump((function, arguments), self._process.stdin)
            self._process.stdin.flush()

    def result(self) -> Any:
        """Wait for the answer; errors of the worker are raised here."""
        assert self._process.stdout is not None  # opened as a pipe above
        try:
            answer = pickle.load(self._process.stdout)
        except EOFError:
            self._process.wait()
            self._log.seek(0)
            last = (self._log.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            code = self._process.returncode
            raise ToolchainError(f"code generation ended with exit code {code}: {last}") from None
        if answer[0]:
            return answer[1]
        raise ERRORS.get(answer[1], BhpeError)(answer[2])

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.communicate()
        self._log.close()


class Workers:
    """The two processes of one compilation, as a context manager; those that a job needs are started with it."""

    def __init__(self, count: int = 2) -> None:
        self._count = count
        self.members: list[Worker] = []

    def start(self, most: int | None = None) -> None:
        """Start the processes, or `most` of them, where they do not run yet."""
        wanted = self._count if most is None else min(most, self._count)
        while len(self.members) < wanted:
            self.members.append(Worker())

    def __enter__(self) -> Self:
        return self

    def run(self, jobs: Sequence[Job], done: Callable[[int], None] = lambda _: None) -> list[Any]:
        """The jobs' results, in order; each goes to the first worker that is free. `done` hears how many are."""
        self.start(len(jobs))
        results: list[Any] = [None] * len(jobs)
        waiting = iter(enumerate(jobs))
        count = 0
        with selectors.DefaultSelector() as selector:

            def give(worker: Worker) -> None:
                for index, (function, *arguments) in waiting:
                    worker.submit(function, *arguments)
                    selector.register(worker, selectors.EVENT_READ, index)
                    return

            for worker in self.members:
                give(worker)
            try:
                while selector.get_map():
                    for key, _ in selector.select():
                        worker = cast(Worker, key.fileobj)
                        results[key.data] = worker.result()
                        selector.unregister(worker)
                        count += 1
                        done(count)
                        give(worker)
            except BaseException:
                # answers of these are on their way, and would be taken for those of the next jobs
                self._replace([cast(Worker, key.fileobj) for key in selector.get_map().values()])
                raise
        return results

    def _replace(self, busy: Sequence[Worker]) -> None:
        """End workers that have not answered, and put new ones in their places."""
        for worker in busy:
            worker.close()
        self.members = [Worker() if worker in busy else worker for worker in self.members]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.members:
            worker.close()


def serve() -> None:
    """The worker's side."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries that print must not disturb the answers
    os.nice(5)  # importing TVM gives way to the export that goes on meanwhile
    sys.modules["torch"] = None  # type: ignore[assignment]  # TVM imports it where it can, and never needs it
    from bhpe_compile.passes.lower import tasks

    while True:
        try:
            name, arguments = pickle.load(sys.stdin.buffer)
        except (EOFError, KeyboardInterrupt):
            return
        try:
            answer: tuple[Any, ...] = (True, getattr(tasks, name)(*arguments) if name in FUNCTIONS else None)
        except BhpeError as error:
            answer = (False, type(error).__name__, str(error))
        except KeyboardInterrupt:
            return
        except Exception as error:  # the boundary of the process: the caller raises it again
            answer = (False, "BhpeError", f"{type(error).__name__}: {error}")
        pickle.dump(answer, answers)
        answers.flush()
