"""What stands ready while a model is compiled: processes for the slow libraries, and torch on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bhpe_compile.compiler.code_cache import CodeCache, KeptCode
    from bhpe_compile.exchange.simplify import Simplifier


@dataclass(frozen=True)
class Tools:
    """Processes that stand ready: TVM and onnxsim are imported in them while torch is imported here."""

    workers: KeptCode
    simplifier: Simplifier

    @classmethod
    @contextmanager
    def start(cls, cache: CodeCache, *, code: bool = True, torch: bool = True) -> Iterator[Tools]:
        """All of them, ended with the block; meanwhile torch, where it is used at all, runs on one thread.

        code: machine code is expected to be made, not only to be found in `cache`.
        """
        from bhpe_compile.compiler.code_cache import KeptCode
        from bhpe_compile.compiler.workers import Workers

        with Workers() as workers:
            if code:
                workers.start()
            # not before: importing it would keep the workers waiting
            from bhpe_compile.exchange.simplify import Simplifier

            with Simplifier() as simplifier, one_thread() if torch else nullcontext():
                yield cls(KeptCode(workers, cache), simplifier)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch's threads would spin against the workers, and on small tensors against each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
