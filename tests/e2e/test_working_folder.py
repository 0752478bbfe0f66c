"""Nothing in the working folder is ever executed, whichever command runs there and however it was started."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bhpe_compile.compiler.plan import list_passes
from bhpe_compile.processes import child_environment, find_program, our_command
from tests.command import ROOT, environment
from tests.e2e.conftest import Compiled

MODULES = (
    *(
        "PIL",
        "accelerate",
        "click",
        "json",
        "multiprocessing",
        "numpy",
        "onnx",
        "onnx_ir",
        "onnxruntime",
        "onnxsim",
    ),
    *("pickle", "rich", "sitecustomize", "tempfile", "torch", "tvm", "tvm_ffi", "unicorn", "usercustomize"),
    *("wasmtime", "ziglang"),
)
PROGRAMS = ("cc", "clang", "gcc", "ld", "lld", "ldconfig", "objcopy", "qemu-aarch64", "ssh", "zig")

SCRIPT = """#!{0}
import sys
from bhpe_compile.cli.main import main
if __name__ == "__main__":
    sys.exit(main())
"""
"""What pip installs as `bhpe-compile`."""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed command, in a folder of its own."""
    path = tmp_path_factory.mktemp("bin") / "bhpe-compile"
    path.write_text(SCRIPT.format(sys.executable))
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, example: Path) -> Path:
    """A working folder with the example and with modules and programs that leave a mark when they run."""
    folder = tmp_path_factory.mktemp("hostile")
    for path in example.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    marks = folder / "marks"
    marks.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(
            f"import os, sys\nopen({str(marks / name)!r} + '.' + str(os.getpid()), 'w').write(str(sys.argv))\n"
            f"raise ImportError('{name} of the working folder')\n"
        )
    for name in PROGRAMS:
        (folder / name).write_text(f"#!/bin/sh\ntouch '{marks}/{name}'\nexit 1\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def marks(folder: Path) -> Iterator[Path]:
    """Where marks would be; there are none when the test begins and when it ends."""
    yield folder / "marks"
    for path in (folder / "marks").iterdir():
        path.unlink()


def left(marks: Path) -> list[str]:
    return sorted(f"{path.name}: {path.read_text()}" for path in marks.iterdir())


def run(command: list[str], folder: Path, **more: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment(**more), capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_command_leaves_the_folder_alone(
    script: Path, folder: Path, marks: Path, compiled_arm: Compiled
) -> None:
    """As installed; the first entry of PATH is empty, which means the working folder."""
    for words in (
        ("example", "again"),
        ("model-bidrn.pt", "--target", "x86", "-o", "out"),
        ("run", "out", "person.png", "-o", "pose.json"),
        ("run", str(compiled_arm.folder), "person.png", "-o", "pose.json"),
        ("verify", "out"),
        ("bench", "out", "--rounds", "2"),
        ("report", "out", "--measure"),
        ("sensitivity", "--help"),
    ):
        run([sys.executable, str(script), *words], folder, PATH=f":{os.environ['PATH']}")
        assert left(marks) == [], words


def test_evaluating_leaves_the_folder_alone(
    script: Path, folder: Path, marks: Path, compiled: Compiled
) -> None:
    pytest.importorskip("anny")
    run([sys.executable, str(script), "eval", str(compiled.folder), "--count", "1"], folder)
    words = ("data", "synth", "--count", "2", "--split", "test", "--workers", "2", "-o", "people")
    run([sys.executable, str(script), *words], folder)
    assert left(marks) == []


def test_started_as_a_module(folder: Path, marks: Path) -> None:
    """`python -m` puts the working folder first on the path; it is gone before another package is imported."""
    words = ("model.pt", "--target", "x86", "--stop-after", list_passes()[-1].name)
    run([sys.executable, "-m", "bhpe_compile.cli", *words], folder)
    assert left(marks) == []


SPAWN = """
import multiprocessing, sys
from bhpe_compile.processes import safe_children
if __name__ == "__main__":
    with safe_children():
        process = multiprocessing.get_context("spawn").Process(target=print, args=("answer",))
        process.start()
    process.join()
    sys.exit(process.exitcode)
"""


def test_children_of_a_program_that_uses_the_package(tmp_path: Path, folder: Path, marks: Path) -> None:
    """What multiprocessing starts would look into the working folder for `multiprocessing`."""
    program = tmp_path / "program.py"
    program.write_text(SPAWN)
    command = [sys.executable, str(program)]
    assert run(command, folder, PYTHONPATH=str(ROOT)) == "answer\n"
    assert left(marks) == []


def test_what_children_are_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").write_text("#!/bin/sh\n")
        (tmp_path / name / "tool").chmod(0o755)
    here, there = tmp_path / "here", tmp_path / "there"
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", ["", str(here), str(there), "relative"])
    monkeypatch.setenv("PYTHONPATH", f":relative:{tmp_path}")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{there}:")
    monkeypatch.setenv("PATH", f":.:{there}")
    given = child_environment(MORE="1")
    assert given["PYTHONPATH"] == f"{tmp_path}:{there}"
    assert given["LD_LIBRARY_PATH"] == given["PATH"] == str(there)
    assert (given["PYTHONSAFEPATH"], given["MORE"]) == ("1", "1")
    assert find_program("tool") == str(there / "tool")
    monkeypatch.setenv("PATH", ".")
    assert find_program("tool") is None
    assert child_environment()["PATH"] == os.defpath  # an empty PATH is the working folder, again
    monkeypatch.setenv("PYTHONPATH", str(here))  # asked for in full
    assert child_environment()["PYTHONPATH"] == f"{here}:{there}"


def test_an_account_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """No HOME and no entry in /etc/passwd, as in containers: TVM asks for a home and would end otherwise."""

    def nobody(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    home = Path(child_environment()["HOME"])
    assert (home.is_dir(), home.stat().st_mode & 0o777) == (True, 0o700)
    assert child_environment()["HOME"] == str(home)


def test_a_checkout_in_the_working_folder_lends_the_package_alone(tmp_path: Path) -> None:
    (tmp_path / "bhpe_compile").symlink_to(ROOT / "bhpe_compile")
    (tmp_path / "click.py").write_text("raise SystemExit('click of the checkout')\n")
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", "bhpe_compile.cli", "--version"],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    words = our_command("bhpe_compile.cli.main", "main")
    assert subprocess.run(words, cwd=tmp_path, env=child_environment(), check=False).returncode == 0


def starts(path: Path) -> Iterator[str]:
    """Where a file names Python's own program, or looks for one by PATH as it is."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            if name in ("sys.executable", "shutil.which", "os.system", "os.popen"):
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {name}"


def test_one_place_starts_python() -> None:
    """Commands are built in processes.py; whoever starts something else hands on its environment."""
    found = [
        place
        for folder in ("bhpe_compile", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name != "processes.py"
        for place in starts(path)
    ]
    assert found == []


def test_every_program_gets_the_environment() -> None:
    """Each call of subprocess in the package and the benchmarks says `env`."""
    found = []
    for folder in ("bhpe_compile", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                module = node.func.value
                if isinstance(module, ast.Name) and module.id == "subprocess":
                    found.append((f"{path.relative_to(ROOT)}:{node.lineno}", {k.arg for k in node.keywords}))
    assert found
    assert [place for place, keywords in found if "env" not in keywords] == []
