"""The model as a static library in C and C++ programs, and as a Python package: they compute what `run` does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bhpe_compile.artifact import check_artifact
from bhpe_compile.artifact.wheel import package_name, write_wheel
from bhpe_compile.errors import UsageError
from bhpe_compile.networks.hand4whole.description import NETWORK
from bhpe_compile.processes import python_command
from bhpe_compile.runtime import Model, Picture, load_picture
from bhpe_compile.runtime.picture import View
from tests.command import inside
from tests.examples import Compiled

ZIG = python_command("-m", "ziglang")
CPP = ["c++"] if shutil.which("c++") else [*ZIG, "c++"]
"""The machine's own compiler where it has one: zig would build its C++ library for this test alone."""
BOX = (40.5, 10.25, 200.0, 400.0)


def view(picture: Picture) -> View:
    """As the embedded networks see it."""
    return picture.seen_by(NETWORK.interface("tiny").inputs[0])


def run(command: list[str | Path], cwd: Path, **more: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bundle(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example for x86 with `--form static` and the weights in the library."""
    folder = tmp_path_factory.mktemp("static") / "model"
    words = ("--target", "x86", "-o", folder, "--form", "static", "--embed-weights")
    outcome = inside(example / "model.pt", *words)
    assert outcome.code == 0, outcome.stderr
    assert "libmodel.a" in outcome.stdout
    return folder


@pytest.fixture(scope="module")
def expected(bundle: Path, example: Path) -> dict[str, NDArray[np.float32]]:
    with Model(bundle) as model:
        return model.run(load_picture(example / "person.png"))


def floats(text: str) -> dict[str, NDArray[np.float32]]:
    """`name: 1 2 3` lines."""
    pairs = (line.split(":") for line in text.splitlines() if ":" in line)
    return {name: np.array(values.split(), np.float32) for name, values in pairs}


def test_the_example_program(
    bundle: Path, example: Path, expected: dict[str, NDArray[np.float32]], tmp_path: Path
) -> None:
    """A picture as PPM, cut in C, and what the network found in it."""
    run(
        [*ZIG, "cc", "-O1", f"-I{bundle}", bundle / "main.c", bundle / "libmodel.a", "-lm", "-o", "main"],
        tmp_path,
    )
    Image.open(example / "person.png").save(tmp_path / "picture.ppm")
    found = floats(run(["./main", bundle / "weights.bin", "picture.ppm"], tmp_path))
    keypoints = NETWORK.interface("tiny").output("joint_img")
    joints = {name: found.pop(f"joint {name}") for name in keypoints.names}
    places = view(load_picture(example / "person.png")).keypoints(keypoints, expected["joint_img"])
    np.testing.assert_allclose(list(joints.values()), places, atol=0.051)  # one digit is printed
    assert found.keys() == expected.keys()
    for name, values in found.items():  # %g prints six digits
        np.testing.assert_allclose(values, expected[name].ravel(), rtol=1e-5, atol=1e-5)


def test_it_asks_the_system_for_little(bundle: Path, tmp_path: Path) -> None:
    """A program that gives the memory itself: no allocator, no files, no threads, even before sections are dropped."""
    (tmp_path / "bare.c").write_text(
        '#include "bhpe.h"\n'
        "void *keep[] = {(void *)bhpe_create_in, (void *)bhpe_run, (void *)bhpe_set_frame, (void *)bhpe_get_output,\n"
        "                (void *)bhpe_set_threads, (void *)bhpe_destroy, (void *)bhpe_memory_bytes};\n"
    )
    command = [*ZIG, "cc", "-O1", f"-I{bundle}", "-c", "bare.c", "-o", "bare.o"]
    run(command, tmp_path)
    run([*ZIG, "ld.lld", "-r", "bare.o", bundle / "libmodel.a", "-o", "all.o"], tmp_path)
    symbols = run(["nm", "-u", "all.o"], tmp_path)
    wanted = set(re.findall(r"U (\w+)", symbols))
    math = {
        "expf",
        "atanf",
        "floor",
        "fmax",
        "fmin",
        "erff",
        "sqrtf",
        "atan2f",
        "sinf",
        "cosf",
        "acosf",
        "logf",
        "powf",
    }
    text = {"memcpy", "memset", "memcmp", "memmove", "strlen"}
    assert wanted <= math | text | {"__tls_get_addr", "_GLOBAL_OFFSET_TABLE_"}, wanted


def test_a_cpp_program(
    bundle: Path, tmp_path: Path, expected: dict[str, NDArray[np.float32]], example: Path
) -> None:
    """bhpe.hpp, the weights in the library, and errors as exceptions."""
    (tmp_path / "main.cpp").write_text(
        """
        #include <cstdio>
        #include <fstream>
        #include <utility>
        #include "bhpe.hpp"
        int main() {
          bhpe::Model made, model(std::move(made));
          std::ifstream file("picture.raw", std::ios::binary);
          file.read(reinterpret_cast<char *>(model.input(0).floats()), model.input(0).nbytes());
          model.run();
          const bhpe_frame whole = {0, 0, 1};
          std::printf("%d joints, %d numbers, first %s\\n", (int)model.joint_names().size(),
                      (int)model.joints(whole).size(), model.joint_names()[0].c_str());
          bhpe::Tensor shape = model.output("smplx_shape");
          std::printf("smplx_shape:");
          for (std::size_t i = 0; i < shape.nbytes() / 4; i++) std::printf(" %g", shape.floats()[i]);
          std::printf("\\n");
          try {
            bhpe::Model("missing.bin");
          } catch (const bhpe::Error &error) {
            std::printf("status %d, %s\\n", error.status(), error.what());
          }
        }
        """
    )
    (tmp_path / "picture.raw").write_bytes(view(load_picture(example / "person.png")).tensor.tobytes())
    flags = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-O1", f"-I{bundle}"]
    run([*CPP, *flags, "main.cpp", bundle / "libmodel.a", "-lm", "-o", "main"], tmp_path)
    text = run(["./main"], tmp_path)
    np.testing.assert_allclose(
        floats(text.splitlines()[1])["smplx_shape"], expected["smplx_shape"].ravel(), rtol=1e-5, atol=1e-5
    )
    assert text.splitlines()[0] == "65 joints, 130 numbers, first pelvis"
    assert "status -4, cannot open: missing.bin" in text


def test_frames_in_a_loop_take_no_memory(bundle: Path, tmp_path: Path) -> None:
    """video.c: set_frame and run, again and again."""
    run(
        [*ZIG, "cc", "-O1", f"-I{bundle}", bundle / "video.c", bundle / "libmodel.a", "-lm", "-o", "video"],
        tmp_path,
    )
    text = run(["./video", bundle / "weights.bin", "320", "240", "200"], tmp_path)
    early, late = map(int, re.findall(r"(\d+) kB", text))
    assert "200 frames: p50" in text
    assert 0 < late <= early + 64  # the C library's own buffers


@pytest.fixture(scope="module")
def site(compiled: Compiled, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the wheel of the example."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = write_wheel(compiled.folder, folder / "dist")
    again = write_wheel(compiled.folder, folder / "again")
    assert wheel.read_bytes() == again.read_bytes()
    assert wheel.name.endswith("-py3-none-manylinux_2_28_x86_64.whl")
    run(python_command("-m", "pip", "install", "-q", "--no-deps", "--target", folder / "site", wheel), folder)
    return folder / "site"


@pytest.mark.parametrize("box", [None, BOX, (-50.0, 100.0, 900.0, 80.0), (300.0, 500.0, 60.0, 300.0)])
def test_the_wheel(
    compiled: Compiled,
    site: Path,
    example: Path,
    tmp_path: Path,
    box: tuple[float, float, float, float] | None,
) -> None:
    """Imported from its contents by a Python that sees NumPy alone; the frame is cut in C, bit for bit as here."""
    name = package_name(compiled.folder)
    script = (
        f"import sys, json, numpy as np, {name}\n"
        "rgb = np.load('rgb.npy'); box = json.loads(sys.argv[1])\n"
        f"with {name}.Model(threads=2) as model:\n"
        "    outputs = model.run(rgb, box)\n"
        "    joints = model.joints()\n"
        "json.dump(joints, open('joints.json', 'w'))\n"
        "np.savez('out.npz', frame=model.frame, **outputs)\n"
        "assert not {'torch', 'PIL', 'bhpe_compile'} & sys.modules.keys()\n"
    )
    rgb = np.asarray(Image.open(example / "person.png").convert("RGB"))
    np.save(tmp_path / "rgb.npy", rgb)
    run(python_command("-c", script, json.dumps(box)), tmp_path, PYTHONPATH=str(site))
    picture = load_picture(example / "person.png", box)
    with Model(str(compiled.folder)) as model:
        expected = model.run(picture)
        from_picture = model.joints()
        from_frame = model.run(rgb, box=box)
        from_file = model.run(example / "person.png", box)
        assert model.joints() == from_picture
    for role, values in expected.items():
        assert np.array_equal(values, from_frame[role]), role
        assert np.array_equal(values, from_file[role]), role
    found = dict(np.load(tmp_path / "out.npz"))
    joints = json.loads((tmp_path / "joints.json").read_text())
    keypoints = NETWORK.interface("tiny").output("joint_img")
    places = view(picture).keypoints(keypoints, expected["joint_img"])
    assert tuple(joints) == keypoints.names
    np.testing.assert_array_equal(list(joints.values()), places)
    assert from_picture == {name: tuple(place) for name, place in joints.items()}
    np.testing.assert_array_equal(found.pop("frame"), [*view(picture).affine[:, 2], view(picture).scale])
    assert found.keys() == expected.keys()
    for role, values in found.items():
        assert np.array_equal(values, expected[role]), role


def test_a_wheel_that_cannot_be_is_refused_before_work(
    example: Path, compiled: Compiled, tmp_path: Path
) -> None:
    words = ("--target", "wasm32", "--form", "wheel", "-o", tmp_path / "out")
    outcome = inside(example / "model.pt", *words)
    assert outcome.code == 2
    assert outcome.stderr.splitlines()[-1].startswith("error: wasm32: Python has no packages for it")
    with pytest.raises(UsageError, match="cannot be imported"):
        write_wheel(compiled.folder, tmp_path, "7up")
    assert not list(tmp_path.iterdir())


def test_the_bundle_is_in_the_manifest(bundle: Path) -> None:
    files = check_artifact(bundle)["files"]
    assert {"libmodel.a", "bhpe.h", "bhpe.hpp", "main.c", "video.c", "bhpe_modelConfig.cmake"} <= files.keys()
    assert inside("verify", bundle).code == 0
