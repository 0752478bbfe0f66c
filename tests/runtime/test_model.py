"""The compiled model in this process: right values, refused misuse, threads, a light import."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.processes import python_command
from bhpe_compile.runtime import Model
from bhpe_compile.runtime.model import aligned_copy
from tests.artifact.folders import on_host, write
from tests.artifact.programs import COLUMNS, ROWS, expected, some_input
from tests.command import environment

pytestmark = on_host

TOLERANCE = 1e-6
"""Sums of 24 products below 4 in float32, in another order than NumPy's, then exp of values below 3."""


def assert_right(outputs: dict[str, np.ndarray], x: np.ndarray, seed: int = 0) -> None:
    want = expected(x, seed)
    assert list(outputs) == ["out", "sign"]
    np.testing.assert_allclose(outputs["out"], want["out"], rtol=TOLERANCE, atol=TOLERANCE)
    clear = np.abs(want["hidden"]) > TOLERANCE
    np.testing.assert_array_equal(outputs["sign"][clear], want["sign"][clear])


def test_run(artifact: Path) -> None:
    with Model(artifact) as model:
        assert [(t.name, t.shape, t.dtype) for t in model.inputs] == [("x", (4, 24), "float32")]
        assert [(t.name, t.shape, t.dtype) for t in model.outputs] == [
            ("out", (ROWS, COLUMNS), "float32"),
            ("sign", (ROWS, COLUMNS), "uint8"),
        ]
        for seed in range(5):
            assert_right(model.run(some_input(seed)), some_input(seed))
        assert_right(model.run({"x": some_input(9)}), some_input(9))


def test_same_input_same_bits(artifact: Path) -> None:
    with Model(artifact) as model:
        first, other, again = (model.run(some_input(seed)) for seed in (1, 2, 1))
        assert not np.array_equal(first["out"], other["out"])
        np.testing.assert_array_equal(first["out"], again["out"])


def test_views_and_copies(artifact: Path) -> None:
    with Model(artifact) as model:
        model.input()[...] = some_input(3)
        model.execute()
        np.testing.assert_array_equal(model.output(0), model.run(some_input(3))["out"])
        assert model.input().ctypes.data % 64 == 0
        weight = model.argument(0, 1)
        assert not weight.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            weight[0, 0] = 1


def test_steps_one_by_one_with_an_override(artifact: Path) -> None:
    with Model(artifact) as model:
        model.input()[...] = some_input(4)
        for step in range(3):
            model.execute_step(step)
        plain = model.output(0).copy()
        model.execute_step(1, {1: aligned_copy(np.zeros(COLUMNS, np.float32))})
        hidden = model.argument(0, 2)
        np.testing.assert_allclose(model.output(0), np.exp(hidden), rtol=1e-6)  # an ulp between two expf
        model.execute_step(1)
        np.testing.assert_array_equal(model.output(0), plain)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 24)),
        np.zeros((24, 4), np.float32),
        np.zeros((1, 4, 24), np.float32),
        np.zeros((4, 24), np.uint8),
        np.float32(0),
    ],
    ids=["float64", "transposed", "rank", "uint8", "scalar"],
)
def test_wrong_array_is_refused(wrong: np.ndarray, artifact: Path) -> None:
    with Model(artifact) as model, pytest.raises(InputError, match=r"input x must be float32 \[4, 24\]"):
        model.run(wrong)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_input_that_is_not_finite_is_refused(value: float, artifact: Path) -> None:
    x = some_input(1)
    x[2, 3] = value
    with Model(artifact) as model, pytest.raises(InputError, match="input x: has NaN or infinity"):
        model.run(x)


def test_an_output_that_is_not_finite_is_refused(artifact: Path) -> None:
    """exp of a large finite number is infinity; the next run is as ever."""
    with Model(artifact) as model:
        with pytest.raises(InputError, match="NaN or infinity in the output: out"):
            model.run(np.full_like(some_input(), 1e6))
        assert_right(model.run(some_input(7)), some_input(7))


def test_weights_with_a_wrong_byte_are_refused_even_where_the_manifest_agrees(copy: Path) -> None:
    content = bytearray((copy / "weights.bin").read_bytes())
    content[-70] ^= 4
    (copy / "weights.bin").write_bytes(content)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["weights.bin"]["sha256"] = hashlib.sha256(content).hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="weights: damaged: their checksum differs; compile the model again"):
        Model(copy)


def test_missing_input_is_named(artifact: Path) -> None:
    with Model(artifact) as model, pytest.raises(InputError, match="input x is missing"):
        model.run({"y": some_input()})


def test_input_in_another_order_of_memory(artifact: Path) -> None:
    with Model(artifact) as model:
        assert_right(model.run(np.asfortranarray(some_input(7))), some_input(7))


def test_two_models_in_two_threads(artifact: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", seed=1)
    with Model(artifact) as first, Model(other) as second, ThreadPoolExecutor(2) as pool:

        def work(model: Model, seed: int) -> None:
            for k in range(300):
                assert_right(model.run(some_input(k)), some_input(k), seed)

        for done in (pool.submit(work, first, 0), pool.submit(work, second, 1)):
            done.result()


def test_one_model_in_two_threads(artifact: Path) -> None:
    with Model(artifact) as model, ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda k: (k, model.run(some_input(k))), range(400))
        for k, outputs in results:
            assert_right(outputs, some_input(k))


def test_threads_do_not_change_a_bit(artifact: Path) -> None:
    with Model(artifact) as model:
        assert model.threads == 1
        wanted = [model.run(some_input(seed)) for seed in range(20)]
        for threads in (2, 3, 1, 7):
            model.threads = threads
            assert model.threads == threads
            for seed, want in enumerate(wanted):
                got = model.run(some_input(seed))
                assert all(got[name].tobytes() == want[name].tobytes() for name in want)


def test_steps_on_threads_with_an_override(artifact: Path) -> None:
    with Model(artifact, threads=3) as model:
        assert model.threads == 3
        model.input()[...] = some_input(4)
        model.execute_step(0, {0: aligned_copy(some_input(5))})
        np.testing.assert_allclose(model.argument(0, 2), expected(some_input(5))["hidden"], atol=1e-5)
        model.execute_step(2, {0: aligned_copy(np.full((ROWS, COLUMNS), -1, np.float32))})
        assert not model.output(1).any()


@pytest.mark.parametrize("threads", [0, -1, 65])
def test_impossible_numbers_of_threads(threads: int, artifact: Path) -> None:
    with pytest.raises(UsageError, match=f"1 to 64 threads, not {threads}"):
        Model(artifact, threads)
    with Model(artifact, 2) as model:
        with pytest.raises(UsageError, match=f"1 to 64 threads, not {threads}"):
            model.threads = threads
        assert model.threads == 2


def test_two_models_with_threads_at_once(artifact: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", seed=1)
    with Model(artifact, 2) as first, Model(other, 3) as second, ThreadPoolExecutor(2) as pool:

        def work(model: Model, seed: int) -> None:
            for k in range(100):
                assert_right(model.run(some_input(k)), some_input(k), seed)

        for done in (pool.submit(work, first, 0), pool.submit(work, second, 1)):
            done.result()


def test_threads_end_with_their_model(artifact: Path) -> None:
    code = """
import os, sys, time
from pathlib import Path
import numpy as np
from bhpe_compile.runtime import Model
def count():
    return len(os.listdir("/proc/self/task"))
def check(more):  # a thread that was joined is listed for a moment longer
    until = time.monotonic() + 10
    while count() != before + more and time.monotonic() < until:
        time.sleep(0.01)
    print(count() - before, end=" ")
before = count()
with Model(Path(sys.argv[1]), 5) as model:
    check(4)
    model.run(np.zeros((4, 24), np.float32))
    model.threads = 2
    check(1)
check(0)
"""
    done = subprocess.run(
        python_command("-c", code, artifact), env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "4 1 0 "


def test_compiling_again_in_one_process(copy: Path) -> None:
    """The folder is replaced while its first library is loaded: each model keeps its own."""
    with Model(copy) as old:
        write(copy, seed=1)
        with Model(copy) as new:
            assert_right(new.run(some_input()), some_input(), seed=1)
        assert_right(old.run(some_input()), some_input(), seed=0)


def test_weights_of_another_model(copy: Path, tmp_path: Path) -> None:
    """Swapped together with their manifest entry: the hashes are right, the model id is not."""
    other = write(tmp_path / "other", seed=1)
    manifest = json.loads((copy / "manifest.json").read_text())
    foreign = json.loads((other / "manifest.json").read_text())
    manifest["files"]["weights.bin"] = foreign["files"]["weights.bin"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    shutil.copy(other / "weights.bin", copy)
    with pytest.raises(InputError, match="of another model than the library"):
        Model(copy)


def test_library_that_is_none(copy: Path) -> None:
    for content in (b"no library", (copy / "weights.bin").read_bytes()):
        (copy / "model.so").write_bytes(content)
        relist(copy, "model.so")
        with pytest.raises(InputError, match=r"model\.so: cannot be loaded"):
            Model(copy)


def test_library_of_somebody_else(copy: Path) -> None:
    libm = next(Path("/lib").glob("*-linux-gnu/libm.so.6"), None)
    if libm is None:
        pytest.skip("no libm to borrow here")
    shutil.copy(libm, copy / "model.so")
    relist(copy, "model.so")
    with pytest.raises(InputError, match="is not a compiled model"):
        Model(copy)


def relist(folder: Path, name: str) -> None:
    """Enter a changed file into the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    content = (folder / name).read_bytes()
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_artifact_for_another_cpu(arm_artifact: Path, copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["target"]["requires"] += ["flux_capacitor"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="this machine has no flux_capacitor"):
        Model(copy)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such artefact folder"):
        Model(tmp_path / "gone")


def test_closed_model_is_refused(artifact: Path) -> None:
    model = Model(artifact)
    model.close()
    model.close()
    with pytest.raises(UsageError, match="closed"):
        model.run(some_input())


def test_open_files_are_given_back(artifact: Path) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with Model(artifact):
        pass
    before = count()
    for _ in range(20):
        with Model(artifact) as model:
            model.run(some_input())
    assert count() == before


def test_neither_torch_nor_tvm_is_imported(artifact: Path) -> None:
    code = """
import sys
from pathlib import Path
import numpy as np
from bhpe_compile.runtime import Model, draw_overlay, load_picture, open_session, to_lists
with Model(Path(sys.argv[1])) as model:
    outputs = model.run(np.zeros((4, 24), np.float32))
with open_session(Path(sys.argv[1])) as session:
    session.execute({"x": np.zeros((4, 24), np.float32)})
to_lists(outputs)
heavy = {"torch", "tvm", "tvm_ffi", "onnx", "onnxruntime", "onnx_ir", "unicorn", "ziglang"}
print(sorted(heavy & sys.modules.keys()), int(outputs["sign"].sum()))
"""
    done = subprocess.run(
        python_command("-c", code, artifact), env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "[] 0\n"


FORKS = """
import os, sys
from pathlib import Path
import numpy as np
from bhpe_compile.runtime import Model
x = np.random.default_rng(1).standard_normal((4, 24)).astype(np.float32)
model = Model(Path(sys.argv[1]), 3)
want = model.run(x)
for how in ("close", "run", "set"):
    child = os.fork()
    if not child:
        assert model.threads == 1
        if how == "run":
            got = model.run(x)
            assert all(np.array_equal(got[name], want[name]) for name in want)
        if how == "set":
            model.threads = 2
            assert model.threads == 2
            assert all(np.array_equal(value, want[name]) for name, value in model.run(x).items())
        model.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, how
assert model.threads == 3
assert all(np.array_equal(value, want[name]) for name, value in model.run(x).items())
model.close()
"""


@pytest.mark.parametrize("round", range(3))
def test_a_model_with_threads_survives_a_fork(artifact: Path, round: int) -> None:
    """gunicorn --preload, multiprocessing: the child has none of the threads, and waits for none."""
    subprocess.run(python_command("-c", FORKS, artifact), env=environment(), check=True, timeout=60)
