"""Machine code that was made before: found again, and nothing else is taken for it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bhpe_compile.artifact.program import Port, Program, Step, TensorSlot
from bhpe_compile.compiler import code_cache
from bhpe_compile.compiler.code_cache import CodeCache, KeptCode
from bhpe_compile.files import beside
from bhpe_compile.kernels import MaxPool2d, PackBits
from bhpe_compile.passes.lower.weights import Constant
from bhpe_compile.targets import get_target

TARGET = get_target("x86")
POOL = MaxPool2d(1, 8, 8, 16, kernel=3, stride=2, padding=1)
JOB = ("generate_kernel", POOL, dict(TARGET.llvm), TARGET.isa)
ANSWER = (b"\x7fELF", 64)
PROGRAM = Program(
    (TensorSlot("arena", 0, 4, (1,), "float32"),),
    (Step("bhpe_f", "glue", "", (0,), ("arg0",)),),
    (Port("image", 0),),
    (Port("out", 0),),
    *(64, 0, b"", (b"object",)),
)
GLUE = (PROGRAM, (Constant("constant0"), Constant("", b"four")), [("bhpe_f", "computed slowly")])


@pytest.fixture
def cache(tmp_path: Path) -> CodeCache:
    return CodeCache(tmp_path / "code")


def kept(cache: CodeCache, job: Sequence[Any] = JOB, answer: object = ANSWER) -> Path:
    """The file of a request that was answered."""
    key = cache.key(*job)
    assert key is not None
    cache.put(key, answer)
    assert cache._folder is not None
    return cache._folder / key


def found(cache: CodeCache, job: Sequence[Any] = JOB) -> Any:
    return cache.get(job[0], cache.key(*job))


def test_answers_come_back_as_they_were(cache: CodeCache) -> None:
    kept(cache)
    kept(cache, ("generate_glue", b"graph"), GLUE)
    assert found(cache) == ANSWER
    assert found(cache, ("generate_glue", b"graph")) == GLUE


@pytest.mark.parametrize(
    "other",
    [
        ("generate_kernel", MaxPool2d(1, 8, 8, 16, kernel=3, stride=1, padding=1), *JOB[2:]),
        ("generate_kernel", PackBits(1, 8, 8, 16, 0), *JOB[2:]),
        ("generate_kernel", POOL, {**TARGET.llvm, "mcpu": "znver4"}, TARGET.isa),
        ("generate_kernel", POOL, dict(TARGET.llvm), get_target("x86-avx512").isa),
        ("generate_kernel", *JOB[2:], POOL),
    ],
)
def test_another_request_is_not_answered(cache: CodeCache, other: Sequence[Any]) -> None:
    kept(cache)
    assert found(cache, other) is None


def test_other_sources_or_another_tvm_give_other_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A kernel that somebody breaks is never answered by the code of the whole one."""
    package = tmp_path / "package"
    (package / "compiler").mkdir(parents=True)
    kernel = package / "kernel.py"
    kernel.write_text("lanes = 8\n")
    monkeypatch.setattr(code_cache, "__file__", str(package / "compiler" / "code_cache.py"))
    digest = code_cache.sources.__wrapped__
    names = [digest()]
    kernel.write_text("lanes = 4\n")
    names.append(digest())
    kernel.rename(package / "kernels.py")
    names.append(digest())
    monkeypatch.setattr(code_cache, "MAKERS", code_cache.MAKERS[1:])
    names.append(digest())
    assert len(set(names)) == 4


def test_every_python_file_of_the_package_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    monkeypatch.setattr(Path, "read_bytes", lambda path: seen.append(path.name.encode()) or b"")
    code_cache.sources.__wrapped__()
    assert {b"tasks.py", b"binary_core.py", b"isa.py", b"program.py", b"codegen.py"} <= set(seen)


@pytest.mark.parametrize("at", [0, 31, 32, -1])
def test_a_damaged_file_is_no_answer(cache: CodeCache, at: int) -> None:
    path = kept(cache)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    assert found(cache) is None
    assert found(CodeCache(kept(cache).parent)) == ANSWER  # made again


@pytest.mark.parametrize("size", [0, 10, 32, 38])
def test_half_a_file_is_no_answer(cache: CodeCache, size: int) -> None:
    path = kept(cache)
    path.write_bytes(path.read_bytes()[:size])
    assert found(cache) is None


def test_a_file_under_another_name_is_no_answer(cache: CodeCache) -> None:
    other = ("generate_kernel", PackBits(1, 8, 8, 16, 0), *JOB[2:])
    path = kept(cache)
    path.rename(path.with_name(cache.key(*other) or ""))
    assert found(cache, other) is None


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_what_others_may_write_is_no_answer(cache: CodeCache, mode: int) -> None:
    path = kept(cache)
    path.chmod(mode)
    assert found(cache) is None
    assert kept(cache).stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert found(cache) == ANSWER


def test_what_somebody_else_wrote_is_no_answer(cache: CodeCache, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kept(cache)
    owner = path.stat().st_uid
    if owner == 0:
        os.chown(path, 1, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert found(cache) is None


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_is_no_regular_file_is_no_answer(cache: CodeCache, kind: str) -> None:
    path = kept(cache)
    moved = path.rename(path.with_name("moved"))
    if kind == "link":
        path.symlink_to(moved)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert found(cache) is None
    cache.put(path.name, ANSWER)  # a folder stays in the way, and nothing is said


def test_a_folder_that_cannot_be_written_is_a_miss(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file" / "code", Path("/proc/none/code"), None):
        cache = CodeCache(folder)
        cache.put(cache.key(*JOB), ANSWER)
        cache.trim()
        assert found(cache) is None


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BHPE_CACHE", str(tmp_path))
    monkeypatch.delenv(code_cache.VARIABLE)
    assert CodeCache.of_user()._folder == tmp_path / "code"
    assert CodeCache.of_user(enabled=False)._folder is None
    monkeypatch.setenv(code_cache.VARIABLE, str(tmp_path / "mine"))
    assert CodeCache.of_user()._folder == tmp_path / "mine"
    monkeypatch.setenv(code_cache.VARIABLE, code_cache.OFF)
    assert CodeCache.of_user()._folder is None


def test_what_was_not_used_goes_first_and_nothing_of_others(cache: CodeCache) -> None:
    jobs = [("generate_kernel", size) for size in range(4)]
    paths = [kept(cache, job, (bytes(1000), 0)) for job in jobs]
    for age, path in enumerate(paths):
        os.utime(path, (1000 + age, 1000 + age))
    assert found(cache, jobs[0]) is not None  # used now
    abandoned = beside(paths[0], "part")
    thesis = paths[0].with_name("thesis.tex")
    for path in (abandoned, thesis):
        path.write_bytes(b"half")
    os.utime(thesis, (1000, 1000))
    cache.trim(sum(path.stat().st_size for path in (paths[0], paths[3], abandoned)))
    assert sorted(paths[0].parent.iterdir()) == sorted((paths[0], paths[3], abandoned, thesis))
    os.utime(abandoned, (1000, 1000))
    cache.trim()
    assert not abandoned.exists()
    cache.trim(0)
    assert list(paths[0].parent.iterdir()) == [thesis]


class Counting:
    """Workers that answer with the request's number, and remember what they were asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def run(self, jobs: Sequence[Any], done: Callable[[int], None] = lambda _: None) -> list[Any]:
        for count, job in enumerate(jobs, 1):
            self.asked.append(job)
            done(count)
        return [(hashlib.sha256(repr(job).encode()).digest(), 0) for job in jobs]


def test_only_what_is_missing_is_made(cache: CodeCache) -> None:
    jobs = [("generate_kernel", size) for size in range(5)]
    first = KeptCode(Counting(), cache)
    first.run(jobs[1:3])
    workers, told = Counting(), list[int]()
    second = KeptCode(workers, cache)
    answers = second.run(jobs, told.append)
    assert workers.asked == [jobs[0], jobs[3], jobs[4]]
    assert told == [2, 3, 4, 5]
    assert answers == Counting().run(jobs)
    assert (second.asked, second.found) == (5, 2)
    workers.asked.clear()
    assert KeptCode(workers, cache).run(jobs) == answers
    assert workers.asked == []
