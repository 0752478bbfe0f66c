"""Workers after a job that failed: the next jobs get their own answers."""

from __future__ import annotations

import pytest

from bhpe_compile.compiler.workers import Workers
from bhpe_compile.errors import BhpeError
from bhpe_compile.kernels import MaxPool2d
from bhpe_compile.targets import get_target

Job = tuple[object, ...]


def test_answers_of_jobs_that_were_given_up_are_not_taken_for_others() -> None:
    """One worker fails while the other one computes: its answer comes when nobody waits for it any more."""
    target = get_target("x86")
    kernel = MaxPool2d(1, 8, 8, 192, kernel=3, stride=2, padding=1)
    slow: Job = ("generate_kernel", kernel, dict(target.llvm), target.isa)
    failing: Job = ("generate_kernel",)  # without its arguments: at once
    nothing: Job = ("unknown",)  # answered by None, at once
    with Workers() as pair:
        with pytest.raises(BhpeError):
            pair.run([failing, slow])
        assert pair.run([nothing, nothing]) == [None, None]
