"""The C interface used wrongly through ctypes: an error and a sentence each time, never a crash."""

from __future__ import annotations

import ctypes as c
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bhpe_compile.artifact import check_artifact
from bhpe_compile.artifact.layout import HEADER, checksums, weights_file
from bhpe_compile.artifact.link import CSRC
from bhpe_compile.artifact.toolchain import zig_cc
from bhpe_compile.artifact.wheel_module import Frame
from bhpe_compile.runtime.library import CStep, CTensor, Library
from bhpe_compile.runtime.model import aligned_copy
from bhpe_compile.runtime.session import Array
from tests.artifact.folders import HOST, on_host
from tests.artifact.programs import COLUMNS, DEPTH, ROWS, expected, small_program, some_input

pytestmark = on_host

OK, BAD_ARGUMENT, BAD_WEIGHTS, NO_MEMORY, IO, NOT_FINITE = 0, -1, -2, -3, -4, -8
CHECK_WEIGHTS, CHECK_OUTPUTS = 1, 2


@pytest.fixture
def library(artifact: Path) -> Iterator[Library]:
    loaded = Library(artifact, check_artifact(artifact))
    yield loaded
    loaded.close()


@pytest.fixture
def model(library: Library, artifact: Path) -> Iterator[c.c_void_p]:
    handle = c.c_void_p()
    assert library.create_from_path(bytes(artifact / "weights.bin"), c.byref(handle)) == OK
    yield handle
    library.destroy(handle)


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], tuple[int, int]]:
    """What checksum.c computes."""
    folder = tmp_path_factory.mktemp("checksum")
    (folder / "main.c").write_text(
        '#include "checksum.c"\n'
        "BHPE_API void halves(const void *data, size_t nbytes, uint32_t *out) { checksum_halves(data, nbytes, out); }\n"
    )
    zig_cc([*HOST.zig, "-O2", "-shared", "-fPIC", f"-I{CSRC}", "main.c", "-o", "halves.so"], folder)
    library = c.CDLL(str(folder / "halves.so"))

    def compute(content: bytes) -> tuple[int, int]:
        found = (c.c_uint32 * 2)()
        library.halves(content, c.c_size_t(len(content)), found)
        return found[0], found[1]

    return compute


def weights() -> Array:
    return aligned_copy(np.frombuffer(weights_file(small_program(HOST)), np.uint8))


def create(library: Library, content: Array, size: int | None = None) -> tuple[int, c.c_void_p]:
    handle = c.c_void_p(12345)
    status = library.create(content.ctypes.data, content.nbytes if size is None else size, c.byref(handle))
    return status, handle


def patched(offset: int, value: bytes) -> Array:
    content = weights()
    content[offset : offset + len(value)] = np.frombuffer(value, np.uint8)
    return content


def assert_computes(library: Library, handle: c.c_void_p) -> None:
    """It computes what the program computes."""
    tensor, x = CTensor(), some_input()
    assert library.get_input(handle, 0, c.byref(tensor)) == OK
    c.memmove(tensor.data, x.ctypes.data, x.nbytes)
    assert library.run(handle) == OK
    assert library.get_output(handle, 1, c.byref(tensor)) == OK
    got = np.frombuffer(c.string_at(tensor.data, tensor.nbytes), np.uint8).reshape(ROWS, COLUMNS)
    np.testing.assert_array_equal(got, expected(x)["sign"])


def test_create_from_memory(library: Library) -> None:
    content = weights()
    status, handle = create(library, content)
    assert status == OK
    assert_computes(library, handle)
    library.destroy(handle)


def test_memory_of_the_callers(library: Library) -> None:
    """Misaligned or short it is refused; enough computes; nothing beyond what was asked for is written."""
    needed = library.memory_bytes()
    content, handle = weights(), c.c_void_p(12345)
    room = aligned_copy(np.full(needed + 64, 0xA5, np.uint8))

    def create_in(memory: int | None, size: int) -> int:
        return int(
            library.create_in(content.ctypes.data, content.nbytes, memory, size, c.byref(handle))  # type: ignore[arg-type]
        )

    for memory, size, status in (
        (None, needed, BAD_ARGUMENT),
        (room.ctypes.data + 8, needed, BAD_ARGUMENT),
        (room.ctypes.data, needed - 1, NO_MEMORY),
        (room.ctypes.data, 0, NO_MEMORY),
    ):
        assert create_in(memory, size) == status
        assert handle.value is None
    assert (room == 0xA5).all()
    assert create_in(room.ctypes.data, needed) == OK
    tensor = CTensor()
    assert library.get_input(handle, 0, c.byref(tensor)) == OK
    assert room.ctypes.data <= tensor.data < room.ctypes.data + needed
    assert_computes(library, handle)
    library.destroy(handle)
    assert (room[needed:] == 0xA5).all()


def test_no_weights_are_embedded_unless_asked(library: Library) -> None:
    size, handle = c.c_uint64(7), c.c_void_p(12345)
    assert library.embedded_weights(c.byref(size)) is None
    assert size.value == 0
    assert library.create_embedded(c.byref(handle)) == BAD_WEIGHTS
    assert handle.value is None
    assert "holds no weights" in library.last_error()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (patched(0, b"X"), "not a weights.bin"),
        (patched(8, b"\1"), "another format version"),
        (patched(12, b"\0"), "another format version"),
        (patched(16, b"\0"), "another size"),
        (patched(24, b"\0\1\2\3"), "another model"),
        (patched(16, b"\xff" * 8), "another size"),
        (np.frombuffer(weights_file(small_program(HOST, seed=1)), np.uint8), "another model"),
    ],
    ids=["magic", "version", "header", "payload", "id", "huge", "foreign"],
)
def test_wrong_weights(library: Library, content: Array, says: str) -> None:
    status, handle = create(library, aligned_copy(content))
    assert (status, handle.value) == (BAD_WEIGHTS, None)
    assert says in library.last_error()


def test_every_bit_of_the_weights_is_checked_when_asked(library: Library) -> None:
    """Create takes them as they are; the check finds any bit, in either half and in the bytes behind both."""
    whole = weights()
    places = [64, 71, whole.nbytes // 2 + 31, whole.nbytes // 2 + 32, whole.nbytes - 1]
    for bit in [None, *(8 * place + place % 8 for place in places)]:
        content = aligned_copy(whole)
        if bit is not None:
            content[bit // 8] ^= 1 << bit % 8
        status, handle = create(library, content)
        assert status == OK
        assert library.set_checks(handle, CHECK_WEIGHTS) == (OK if bit is None else BAD_WEIGHTS)
        if bit is not None:
            assert library.last_error() == "weights: damaged: their checksum differs"
        library.destroy(handle)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 4095, 4096, 4097])
def test_checksums_are_those_of_zlib(size: int, halves: Callable[[bytes], tuple[int, int]]) -> None:
    """checksum.c and `layout.checksums` agree for every length."""
    content = np.random.default_rng(size).bytes(size)
    assert halves(content) == checksums(content)


def test_outputs_that_are_not_finite_are_reported_when_asked(library: Library, model: c.c_void_p) -> None:
    """The run is done all the same: `sign`, an output of whole numbers, can be read."""
    tensor, x = CTensor(), some_input()
    x[2, 3] = np.inf
    assert library.get_input(model, 0, c.byref(tensor)) == OK
    c.memmove(tensor.data, x.ctypes.data, x.nbytes)
    assert library.run(model) == OK
    assert library.set_checks(model, CHECK_OUTPUTS) == OK
    assert library.run(model) == NOT_FINITE
    assert library.last_error() == "NaN or infinity in the output: out"
    assert library.set_checks(model, 0) == OK
    assert_computes(library, model)
    assert library.set_checks(model, CHECK_WEIGHTS | CHECK_OUTPUTS) == OK
    assert_computes(library, model)


def test_checks_that_do_not_exist(library: Library, model: c.c_void_p) -> None:
    for checks in (4, -1, 2**31 - 1, -(2**31)):
        assert library.set_checks(model, checks) == BAD_ARGUMENT
    assert library.set_checks(None, 0) == BAD_ARGUMENT


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 4095])
def test_truncated_weights(library: Library, size: int, tmp_path: Path) -> None:
    content = weights()
    assert create(library, content, size)[0] == BAD_WEIGHTS
    (tmp_path / "weights.bin").write_bytes(content[:size].tobytes())
    handle = c.c_void_p(12345)
    assert library.create_from_path(bytes(tmp_path / "weights.bin"), c.byref(handle)) == BAD_WEIGHTS
    assert handle.value is None


def test_longer_weights(library: Library) -> None:
    content = aligned_copy(np.append(weights(), np.uint8(0)))
    assert create(library, content)[0] == BAD_WEIGHTS
    assert "longer" in library.last_error()


@pytest.mark.parametrize("offset", [1, 16, 32])
def test_misaligned_weights(library: Library, offset: int) -> None:
    content = aligned_copy(np.append(np.zeros(offset, np.uint8), weights()))[offset:]
    assert create(library, content)[0] == BAD_WEIGHTS
    assert "aligned" in library.last_error()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not list mappings")
@pytest.mark.parametrize("status", [OK, BAD_WEIGHTS])
def test_the_file_is_given_back(library: Library, tmp_path: Path, status: int) -> None:
    """When the model is destroyed, and at once when there is none."""
    file, handle = tmp_path / "mapped.bin", c.c_void_p()
    file.write_bytes(weights()[: None if status == OK else -1].tobytes())
    assert library.create_from_path(bytes(file), c.byref(handle)) == status
    mapped = str(file) in Path("/proc/self/maps").read_text()
    assert mapped == (status == OK)
    library.destroy(handle)
    assert str(file) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("path", [b"/nowhere/weights.bin", b"/", b"/dev/null", b""])
def test_file_that_is_none(library: Library, path: bytes) -> None:
    handle = c.c_void_p(12345)
    assert library.create_from_path(path, c.byref(handle)) == IO
    assert handle.value is None
    assert path.decode() in library.last_error()


def test_long_messages_are_cut(library: Library) -> None:
    """At 255 bytes, of which the last ones are the path's."""
    handle = c.c_void_p()
    for length in (200, 242, 243, 244, 300):
        assert library.create_from_path(b"/" + b"x" * (length - 1), c.byref(handle)) == IO
        assert library.last_error() == ("cannot open: /" + "x" * (length - 1))[:255]


def test_null_everywhere(library: Library, model: c.c_void_p, artifact: Path) -> None:
    tensor, step, handle = CTensor(), CStep(), c.c_void_p()
    calls = [
        library.create(None, 0, c.byref(handle)),
        library.create(weights().ctypes.data, 4096, None),
        library.create_from_path(None, c.byref(handle)),
        library.create_from_path(bytes(artifact / "weights.bin"), None),
        library.get_input(None, 0, c.byref(tensor)),
        library.get_input(model, 0, None),
        library.get_output(None, 0, c.byref(tensor)),
        library.get_output(model, 0, None),
        library.run(None),
        library.get_step(None, 0, c.byref(step)),
        library.get_step(model, 0, None),
        library.step_argument(None, 0, 0, c.byref(tensor)),
        library.step_argument(model, 0, 0, None),
        library.run_step(None, 0, None),
        library.set_threads(None, 1),
        library.joints(None, None, None),
        library.joints(model, None, None),
    ]
    assert calls == [BAD_ARGUMENT] * len(calls)
    assert (library.joint_count(None), library.joint_name(None, 0)) == (0, None)
    assert [library.input_count(None), library.output_count(None), library.step_count(None)] == [0, 0, 0]
    assert library.get_threads(None) == 0
    library.destroy(None)


@pytest.mark.parametrize("index", [-1, 3, 2**31 - 1, -(2**31)])
def test_index_out_of_range(library: Library, model: c.c_void_p, index: int) -> None:
    tensor, step = CTensor(), CStep()
    calls = [
        library.get_input(model, index, c.byref(tensor)),
        library.get_output(model, index, c.byref(tensor)),
        library.get_step(model, index, c.byref(step)),
        library.step_argument(model, index, 0, c.byref(tensor)),
        library.step_argument(model, 0, index, c.byref(tensor)),
        library.run_step(model, index, None),
    ]
    assert calls == [BAD_ARGUMENT] * len(calls)
    assert "index" in library.last_error()


def test_a_network_without_keypoints_has_no_joints(library: Library, model: c.c_void_p) -> None:
    assert library.joint_count(model) == 0
    assert library.joint_name(model, 0) is None
    frame, places = Frame(0, 0, 1), (c.c_double * 2)()
    assert library.joints(model, c.byref(frame), places) == BAD_ARGUMENT
    assert library.last_error() == "bhpe_joints: the network has no keypoints"


def test_numbers_of_threads(library: Library, model: c.c_void_p) -> None:
    assert library.get_threads(model) == 1
    for threads in (2, 64, 3, 1, 5):
        assert library.set_threads(model, threads) == OK
        assert library.get_threads(model) == threads
        assert library.run(model) == OK
    for threads in (0, -1, 65, 2**31 - 1, -(2**31)):
        assert library.set_threads(model, threads) == BAD_ARGUMENT
        assert library.last_error() == "bhpe_set_threads: the number of threads must be from 1 to 64"
    assert library.get_threads(model) == 5


def test_misaligned_override(library: Library, model: c.c_void_p) -> None:
    block = np.zeros(4 * ROWS * DEPTH + 128, np.uint8)
    start = -block.ctypes.data % 64 + 4
    pointers = (c.c_void_p * 3)(block.ctypes.data + start, None, None)
    assert library.run_step(model, 0, pointers) == BAD_ARGUMENT
    assert "aligned" in library.last_error()


def test_errors_belong_to_their_thread(library: Library) -> None:
    assert library.run(None) == BAD_ARGUMENT
    seen: list[str] = []
    other = threading.Thread(target=lambda: seen.append(library.last_error()))
    other.start()
    other.join()
    assert seen == [""]
    assert "model is NULL" in library.last_error()


def test_header_and_python_agree(library: Library, model: c.c_void_p) -> None:
    """The structures of ctypes have the layout of the header: every field shows what the program says."""
    tensor, step = CTensor(), CStep()
    assert library.step_argument(model, 0, 1, c.byref(tensor)) == OK
    assert [tensor.shape[i] for i in range(tensor.ndim)] == [DEPTH, COLUMNS]
    assert (tensor.name, tensor.nbytes, tensor.offset) == (b"weight", 4 * DEPTH * COLUMNS, 0)
    assert (tensor.type, tensor.bits, tensor.constant, tensor.id) == (2, 32, 1, 4)
    assert library.get_step(model, 1, c.byref(step)) == OK
    assert (step.symbol, step.kind, step.layer, step.arguments) == (b"add_exp", b"glue", b"", 3)
    assert HEADER.size == 64
