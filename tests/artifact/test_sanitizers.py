"""Executor and driver under AddressSanitizer and UndefinedBehaviorSanitizer, fed with broken files.

The host's own `cc` builds them: zig comes without AddressSanitizer's runtime.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bhpe_compile.artifact.layout import weights_file
from bhpe_compile.artifact.link import EXECUTOR, write_sources
from bhpe_compile.errors import BhpeError
from bhpe_compile.runtime.protocol import (
    DESCRIBE,
    END,
    FORCE,
    HEAD,
    INPUT,
    OVERRIDE,
    PROBE,
    REQUEST_MAGIC,
    TAP,
    Description,
    describe_request,
    execute_request,
    parse_description,
    parse_execution,
)
from bhpe_compile.runtime.session import Probe
from tests.artifact.folders import HOST, on_host
from tests.artifact.programs import COLUMNS, ROWS, expected, small_program, some_input

pytestmark = on_host

FLAGS = (
    "-std=c11",
    "-O1",
    "-g",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-Wall",
    "-Wextra",
    "-pthread",
)


FUZZ = Path(__file__).with_name("fuzz.c").resolve()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver of the small program, built with sanitizers, beside its weights."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler cc on this machine")
    place = tmp_path_factory.mktemp("sanitizers")
    objects = write_sources(small_program(HOST), place)
    sources = [*EXECUTOR, "session.c", "driver.c", *objects]
    done = subprocess.run(
        ["cc", *FLAGS, *sources, "-lm", "-o", "driver"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    if "cannot find -lasan" in done.stderr or "libasan" in done.stderr:
        pytest.skip("cc comes without AddressSanitizer")
    assert done.returncode == 0, done.stderr
    (place / "weights.bin").write_bytes(weights_file(small_program(HOST)))
    return place


@pytest.fixture
def drive(folder: Path, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run the driver with arguments; a finding of a sanitizer fails the test."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        done = subprocess.run(
            [folder / "driver", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert "Sanitizer" not in done.stderr, done.stderr
        assert "runtime error" not in done.stderr, done.stderr
        assert done.returncode in (0, 1, 2)
        return done.returncode, done.stdout + done.stderr

    return run


def full_request() -> bytes:
    ones = np.ones((ROWS, COLUMNS), np.float32)
    probes = [Probe(2, {0: -ones}, 1, "a"), Probe(1, {0: ones, 1: ones[0]}, 2, "b")]
    return execute_request([some_input()], [(0, 2), (2, 1)], probes, {(0, 2): ones})


def test_sound_requests(folder: Path, tmp_path: Path, drive: Callable[..., tuple[int, str]]) -> None:
    (tmp_path / "q").write_bytes(describe_request())
    assert drive(folder / "weights.bin", "q", "r") == (0, "")
    model = parse_description((tmp_path / "r").read_bytes())
    (tmp_path / "q").write_bytes(full_request())
    assert drive(folder / "weights.bin", "q", "r") == (0, "")
    one = (tmp_path / "r").read_bytes()
    assert drive(folder / "weights.bin", "q", "r", "--threads", "3") == (0, "")
    assert (tmp_path / "r").read_bytes() == one
    probes = [Probe(2, {}, 1, "a"), Probe(1, {}, 2, "b")]
    run = parse_execution((tmp_path / "r").read_bytes(), model, probes)
    np.testing.assert_array_equal(run.outputs["sign"], np.ones((ROWS, COLUMNS)))
    np.testing.assert_array_equal(run.probes["a"], np.zeros((ROWS, COLUMNS)))
    # e + 1 in float32; two expf may differ in the last place
    np.testing.assert_allclose(run.probes["b"], np.exp(np.float32(1)) + np.float32(1), rtol=1e-6)


def test_truncated_requests(folder: Path, tmp_path: Path, drive: Callable[..., tuple[int, str]]) -> None:
    whole = full_request()
    for size in (0, 7, 8, 9, 31, 32, 33, 100, len(whole) // 2, len(whole) - HEAD.size, len(whole) - 1):
        (tmp_path / "q").write_bytes(whole[:size])
        code, said = drive(folder / "weights.bin", "q", "r")
        assert code == 1
        assert "request" in said
        with pytest.raises(BhpeError, match="request"):
            parse_execution((tmp_path / "r").read_bytes(), NOTHING, [])


NOTHING = Description((), (), ())
"""Enough to read an error."""


def record(
    kind: int, step: int = 0, argument: int = 0, count: int = 0, size: int | None = None, data: bytes = b""
) -> bytes:
    """One record, whose size may lie."""
    return (
        HEAD.pack(kind, step, argument, count, len(data) if size is None else size)
        + data
        + bytes(-len(data) % 8)
    )


X_BYTES = some_input().tobytes()
HIDDEN_BYTES = bytes(4 * ROWS * COLUMNS)

BROKEN = {
    "unknown kind": record(9),
    "response kind": record(7),
    "huge size": record(INPUT, size=2**64 - 1),
    "size that wraps when padded": record(INPUT, size=2**64 - 4),
    "input that is none": record(INPUT, 1, data=X_BYTES),
    "negative input": record(INPUT, -1, data=X_BYTES),
    "short input": record(INPUT, data=X_BYTES[:-4]),
    "tap of no step": record(TAP, 3),
    "tap of a negative step": record(TAP, -1),
    "tap of no argument": record(TAP, 0, 3),
    "probe without override": record(PROBE, 1, 2, 1),
    "override without probe": record(OVERRIDE, 0, 0, data=HIDDEN_BYTES),
    "probe of no argument": record(PROBE, 1, -1, 0),
    "override of no argument": record(PROBE, 1, 2, 1) + record(OVERRIDE, 0, 5, data=HIDDEN_BYTES),
    "override of a negative argument": record(PROBE, 1, 2, 1) + record(OVERRIDE, 0, -7, data=HIDDEN_BYTES),
    "short override": record(PROBE, 1, 2, 1) + record(OVERRIDE, 0, 0, data=HIDDEN_BYTES[4:]),
    "countless overrides": record(PROBE, 1, 2, 2**32 - 1) + record(OVERRIDE, 0, 0, data=HIDDEN_BYTES),
    "forced constant": record(FORCE, 0, 1, data=bytes(3840)),
    "short force": record(FORCE, 0, 2, data=b""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_requests(
    name: str, folder: Path, tmp_path: Path, drive: Callable[..., tuple[int, str]]
) -> None:
    (tmp_path / "q").write_bytes(REQUEST_MAGIC + BROKEN[name] + record(END))
    code, said = drive(folder / "weights.bin", "q", "r")
    assert code == 1
    assert said.startswith("driver: ")
    with pytest.raises(BhpeError, match="the compiled model reports: "):
        parse_execution((tmp_path / "r").read_bytes(), NOTHING, [])


def test_random_requests(folder: Path, tmp_path: Path, drive: Callable[..., tuple[int, str]]) -> None:
    """Single bytes of a sound request changed: whatever happens, no memory error."""
    generator = np.random.default_rng(0)
    whole = full_request()
    heads = [8, 8 + HEAD.size + len(X_BYTES), *(len(whole) - 8 - HEAD.size * k for k in range(1, 4))]
    for _ in range(40):
        content = bytearray(whole)
        content[int(generator.choice(heads)) + int(generator.integers(24))] ^= 1 << int(generator.integers(8))
        (tmp_path / "q").write_bytes(content)
        drive(folder / "weights.bin", "q", "r")


@pytest.mark.parametrize("seed", [1, 2])
def test_fuzz(seed: int, folder: Path, tmp_path: Path) -> None:
    """Damaged weights and requests by the thousand, in one process: refused or run, and never a memory error."""
    runs = 5_000
    if not (folder / "fuzz").exists():
        sources = [*EXECUTOR, "session.c", str(FUZZ), *(path.name for path in folder.glob("kernels*.o"))]
        subprocess.run(["cc", *FLAGS, "-I.", *sources, "-lm", "-o", "fuzz"], cwd=folder, check=True)
    (tmp_path / "q").write_bytes(full_request())
    done = subprocess.run(
        [folder / "fuzz", folder / "weights.bin", "q", str(seed), str(runs)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"ASAN_OPTIONS": "log_path=finding", "UBSAN_OPTIONS": "log_path=finding"},
        check=False,
    )
    findings = "".join(path.read_text() for path in tmp_path.glob("finding*"))
    assert (done.returncode, findings) == (0, "")
    weights, requests = (int(word) for word in done.stdout.split())
    assert 0 < weights < runs  # some damage does not matter, most does
    assert 0 < requests < runs // 10


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 4095, 4097])
def test_weights_of_another_size(
    size: int, folder: Path, tmp_path: Path, drive: Callable[..., tuple[int, str]]
) -> None:
    content = (folder / "weights.bin").read_bytes() + b"\0"
    (tmp_path / "w").write_bytes(content[:size])
    code, said = drive("w", "--time", "1")
    assert code == 1
    assert said.startswith("driver: ")


def test_any_header(folder: Path, tmp_path: Path, drive: Callable[..., tuple[int, str]]) -> None:
    """Every byte of the header counts."""
    content = (folder / "weights.bin").read_bytes()
    for place in range(64):
        (tmp_path / "w").write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        assert drive("w", "--time", "1")[0] == 1


def test_raw_mode(folder: Path, tmp_path: Path, drive: Callable[..., tuple[int, str]]) -> None:
    (tmp_path / "x.bin").write_bytes(X_BYTES)
    assert drive(folder / "weights.bin", "--raw", ".", "x.bin") == (0, "")
    sign = np.frombuffer((tmp_path / "sign.bin").read_bytes(), np.uint8).reshape(ROWS, COLUMNS)
    np.testing.assert_array_equal(sign, expected(some_input())["sign"])
    assert len((tmp_path / "out.bin").read_bytes()) == 4 * ROWS * COLUMNS
    (tmp_path / "x.bin").write_bytes(X_BYTES[:-1])
    for arguments in (
        ("--raw", "."),
        ("--raw", ".", "x.bin"),
        ("--raw", ".", "gone"),
        ("--raw", "x.bin", "x.bin"),
    ):
        assert drive(folder / "weights.bin", *arguments)[0] == 1


def test_time_mode(folder: Path, tmp_path: Path, drive: Callable[..., tuple[int, str]]) -> None:
    (tmp_path / "x.bin").write_bytes(X_BYTES)
    for inputs in ((), ("x.bin",)):
        code, said = drive(folder / "weights.bin", "--time", "5", *inputs)
        median, fastest, p90 = (float(word) for word in said.split()[1::2])
        assert code == 0
        assert 0 < fastest <= median <= p90
    for inputs in (("x.bin", "x.bin"), ("gone",)):
        assert drive(folder / "weights.bin", "--time", "5", *inputs)[0] == 1
    for runs in ("0", "-1", "x", "99999999999999999999"):
        assert drive(folder / "weights.bin", "--time", runs)[0] == 1
    assert drive(folder / "weights.bin", "--time", "5", "--threads", "3")[0] == 0
    for threads in ("0", "-1", "65", "x", "2x", ""):
        code, said = drive(folder / "weights.bin", "--time", "5", "--threads", threads)
        assert (code, "from 1 to 64" in said) == (1, True)


def test_wrong_command_lines(folder: Path, drive: Callable[..., tuple[int, str]]) -> None:
    for arguments in ((), ("w",), ("w", "q"), ("w", "q", "r", "s"), ("w", "--time"), ("w", "--threads", "2")):
        assert drive(*arguments)[0] == 2
    assert drive(folder / "weights.bin", "gone", "r")[0] == 1
    assert drive(folder / "weights.bin", "gone", "/nowhere/r")[0] == 1
    assert drive("gone", "q", "r")[0] == 1


def test_padding_and_numbers_agree_with_c() -> None:
    assert struct.calcsize("<IiiIQ") == HEAD.size == 24
    assert tuple(range(7)) == (END, INPUT, TAP, PROBE, OVERRIDE, FORCE, DESCRIBE)
