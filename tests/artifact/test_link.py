"""Linking: nothing but the interface is visible, nothing is missing, the same bytes every time."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bhpe_compile.artifact import toolchain
from bhpe_compile.artifact.layout import HEADER, WEIGHTS_MAGIC, WEIGHTS_VERSION, model_id
from bhpe_compile.artifact.link import CSRC, NEEDS_FILES, declared, link, write_sources
from bhpe_compile.artifact.static import ARCHIVE, static_files
from bhpe_compile.artifact.tables import c_string
from bhpe_compile.artifact.toolchain import zig_cc
from bhpe_compile.errors import BhpeError, ToolchainError
from bhpe_compile.processes import python_command
from bhpe_compile.targets import get_target
from tests.artifact.folders import HOST
from tests.artifact.programs import small_program
from tests.command import ROOT

DECLARED = set(declared())


def elf_names(library: bytes) -> set[str]:
    """All strings of the dynamic string table that look like symbols of ours or of TVM."""
    return {word.decode() for word in re.findall(rb"\0((?:bhpe_|__tvm|TVM)\w+)(?=\0)", library)}


@pytest.mark.parametrize("name", ["x86", "arm"])
def test_twice_gives_the_same_bytes(name: str) -> None:
    program = small_program(get_target(name))
    assert link(program, get_target(name)) == link(program, get_target(name))


@pytest.mark.parametrize("name", ["x86", "arm"])
def test_library_shows_the_interface_only(name: str) -> None:
    library = link(small_program(get_target(name)), get_target(name)).module
    assert {word for word in elf_names(library) if not word.startswith("bhpe_program")} == DECLARED


def test_web_module_needs_nothing_and_shows_the_interface() -> None:
    wasmtime = pytest.importorskip("wasmtime", reason="the package wasmtime reads the module")
    target = get_target("wasm32")
    module = wasmtime.Module(wasmtime.Engine(), link(small_program(target), target).module)
    assert [one.name for one in module.imports] == []
    exported = {one.name for one in module.exports}
    allocation = {"malloc", "aligned_alloc", "free"}
    assert exported == DECLARED - set(NEEDS_FILES) | allocation | {"memory", "_initialize"}


def test_no_path_of_this_machine_is_inside() -> None:
    target = get_target("arm")
    linked = link(small_program(target), target)
    for content in (linked.module, linked.driver, static_files(small_program(target), target)[ARCHIVE]):
        assert b"bhpe-link-" not in content
        assert b"bhpe-static-" not in content
        assert str(Path.home()).encode() + b"/" not in content
        assert str(ROOT).encode() not in content


def test_weights_carry_the_id_of_the_library() -> None:
    program = small_program(HOST)
    linked = link(program, HOST)
    magic, version, header, payload, identity, *_ = HEADER.unpack_from(linked.weights)
    assert (magic, version, header, payload) == (WEIGHTS_MAGIC, WEIGHTS_VERSION, 64, len(program.weights))
    assert identity == model_id(program)
    assert identity.hex() == linked.model_id
    assert linked.model_id.encode() in linked.module
    assert linked.weights[64:] == program.weights


def test_everything_counts_for_the_id() -> None:
    program = small_program(HOST)
    others = [
        replace(program, weights=b"\1" + program.weights[1:]),
        replace(program, arena_bytes=program.arena_bytes + 64),
        replace(program, steps=program.steps[:-1]),
        replace(program, objects=(*program.objects, b"")),
        small_program(HOST, seed=1),
    ]
    assert len({model_id(p) for p in (program, *others)}) == 1 + len(others)


def test_object_that_needs_the_runtime_of_tvm_is_refused(tmp_path: Path) -> None:
    (tmp_path / "k.c").write_text(
        "int TVMFuncCall(void); int __tvm_ffi_matmul(void) { return TVMFuncCall(); }"
    )
    zig_cc([*HOST.zig, "-c", "-fPIC", "k.c", "-o", "k.o"], tmp_path)
    program = small_program(HOST)
    broken = replace(program, steps=program.steps[:1], objects=((tmp_path / "k.o").read_bytes(),))
    with pytest.raises(ToolchainError, match="undefined symbol: TVMFuncCall"):
        link(broken, HOST)


def test_kernel_without_object_is_refused() -> None:
    with pytest.raises(ToolchainError, match="undefined symbol: __tvm_ffi_"):
        link(replace(small_program(HOST), objects=()), HOST)


def test_missing_compiler_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(toolchain, "find_spec", lambda _: None)
    with pytest.raises(ToolchainError, match=r"pip install 'ziglang"):
        zig_cc(["--version"], tmp_path)


def test_home_that_cannot_be_written() -> None:
    """In a process of its own, whose temporary cache goes with it."""
    code = "from bhpe_compile.artifact.toolchain import environment; print(environment()['ZIG_GLOBAL_CACHE_DIR'])"
    variables = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "ZIG_GLOBAL_CACHE_DIR")}
    variables |= {"HOME": "/proc/nowhere", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        python_command("-c", code), env=variables, capture_output=True, text=True, check=True
    )
    folder = Path(done.stdout.strip())
    assert folder.name.startswith("bhpe-zig-")
    assert not folder.exists()


def test_given_cache_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path / "cache"))
    assert toolchain.environment()["ZIG_GLOBAL_CACHE_DIR"] == str(tmp_path / "cache")


@pytest.mark.parametrize("text", ["", 'a"b\\c', "tab\tand\nline", "näme", "??=", "%s", "0\x001"])
def test_c_strings(text: str, tmp_path: Path) -> None:
    """The compiler reads back the bytes that were meant."""
    source = (
        f'#include <string.h>\n_Static_assert(sizeof {c_string(text)} == {len(text.encode()) + 1}, "");\n'
    )
    values = ", ".join(str(b - 256 if b > 127 else b) for b in text.encode())
    source += f"const signed char meant[] = {{{values or 0}}};\n"
    source += f"int main(void) {{ return memcmp(meant, {c_string(text)}, {len(text.encode())}) != 0; }}\n"
    (tmp_path / "s.c").write_text(source)
    zig_cc([*HOST.zig, "-std=c11", "-O2", "-trigraphs", "-Werror", "s.c", "-o", "s"], tmp_path)
    assert subprocess.run([tmp_path / "s"], check=False).returncode == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"offset": 32}, "aligned"),
        ({"offset": 1 << 20}, "outside the arena"),
        ({"offset": -64}, "outside the arena"),
        ({"nbytes": 8}, "has 8 bytes"),
        ({"dtype": "complex64"}, "complex64"),
        ({"storage": "weights", "offset": 3840}, "outside the weights"),
    ],
)
def test_tensor_outside_of_its_memory_is_refused(
    change: dict[str, object], says: str, tmp_path: Path
) -> None:
    program = small_program(HOST)
    first = replace(program.tensors[0], **change)  # type: ignore[arg-type]
    with pytest.raises(BhpeError, match=says):
        write_sources(replace(program, tensors=(first, *program.tensors[1:])), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_tables_out_of_range_are_refused(tmp_path: Path) -> None:
    program = small_program(HOST)
    step, port = program.steps[0], program.inputs[0]
    for broken in (
        replace(program, steps=(replace(step, args=(0, 1, 6)),)),
        replace(program, steps=(replace(step, roles=("x",)),)),
        replace(program, steps=(replace(step, layer="a\tb"),)),
        replace(program, inputs=(replace(port, tensor=-1),)),
        replace(program, inputs=(replace(port, tensor=4),)),
        replace(program, outputs=(replace(port, name="../x"),)),
    ):
        with pytest.raises(BhpeError, match="internal: "):
            write_sources(broken, tmp_path)


@pytest.mark.parametrize(("name", "standard"), [("use.c", "c99"), ("use.cpp", "c++11")])
def test_header_is_clean(name: str, standard: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('#include "bhpe.h"\nint main(void) { return bhpe_abi_version() != 1; }\n')
    (tmp_path / "bhpe.h").write_text((CSRC / "bhpe.h").read_text())
    strict = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-std={standard}", "-O2")
    zig_cc([*HOST.zig, *strict, "-c", name, "-o", "use.o"], tmp_path)
    assert (tmp_path / "use.o").stat().st_size > 0
