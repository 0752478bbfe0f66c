"""Targets that a user describes: boards, files, TVM's JSON and option strings; a wrong one says what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.targets import BOARDS, PRESETS, get_target, restore_target
from bhpe_compile.targets.int8_instructions import SMLAL
from bhpe_compile.targets.isa import NEON, NEON_DOT

CAMERA = """
[camera]
like = "arm-a53"
summary = "at the gate"
mcpu = "cortex-a55"
mattr = ["+dotprod"]
requires = ["asimdhp"]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "boards.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", BOARDS)
def test_boards_are_targets_under_another_name(name: str) -> None:
    board, base = get_target(name), PRESETS[BOARDS[name][0]]
    assert (board.name, board.like) == (name, base.name)
    assert (board.llvm, board.isa, board.requires) == (base.llvm, base.isa, base.requires)
    assert board.measured_tiles() == base.measured_tiles()


def test_a_file_says_what_is_different(tmp_path: Path) -> None:
    path = write(tmp_path, CAMERA)
    target = get_target(str(path))
    assert target == get_target(f"{path}:camera")
    assert (target.name, target.like, target.summary) == ("camera", "arm-a53", "at the gate")
    assert target.llvm == {**PRESETS["arm-a53"].llvm, "mcpu": "cortex-a55", "mattr": ["+dotprod"]}
    assert target.isa.int8 == NEON_DOT.int8
    assert target.isa.binary_tile == NEON.binary_tile
    assert target.requires == ("fp", "asimd", "asimdhp", "asimddp")
    plain = get_target(str(write(tmp_path, CAMERA + 'int8 = "smlal"\n')))
    assert plain.isa.int8 == SMLAL


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "one table a target"),
        ("like = 'arm'", "one table a target"),
        ("[a", "is not TOML"),
        ("[a]", "like must name a target"),
        ("[a]\nlike = 'z80'", "like must name a target of .*, not 'z80'"),
        ("[a]\nlike = 'arm'\nspeed = 3", "unknown key 'speed'; known are like, summary"),
        ("[a]\nlike = 'arm'\nmcpu = 3", "mcpu must be a word"),
        ("[a]\nlike = 'arm'\nmattr = '+crc'", "mattr must be a list of words"),
        ("[a]\nlike = 'arm'\nmattr = ['crc']", r"mattr wants \+feature"),
        ("[a]\nlike = 'arm'\nint8 = 'vpdpbusd'", "int8 must be one of smull, smlal, sdot"),
        ("[a]\nlike = 'x86'\nint8 = 'sdot'", "int8 must be one of pmaddwd"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        get_target(str(write(tmp_path, text)))


def test_which_of_several(tmp_path: Path) -> None:
    path = write(tmp_path, "[a]\nlike = 'arm'\n[b]\nlike = 'x86'\n")
    assert get_target(f"{path}:b").family == "x86_64"
    with pytest.raises(UsageError, match=r"describes a, b; say which"):
        get_target(str(path))
    with pytest.raises(UsageError, match="describes no c, but a, b"):
        get_target(f"{path}:c")
    with pytest.raises(UsageError, match="cannot be read"):
        get_target(str(tmp_path / "missing.toml"))


@pytest.mark.parametrize(
    "text",
    [
        "llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a55 -mattr=+dotprod,+crc",
        '{"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a55", "mattr": ["+dotprod", "+crc"]}',
    ],
)
def test_descriptions_of_tvm(text: str) -> None:
    target = get_target(text)
    assert (target.name, target.like, target.isa) == ("aarch64-cortex-a55", "arm", NEON_DOT)
    assert target.llvm == {
        "kind": "llvm",
        "mtriple": "aarch64-linux-gnu",
        "mcpu": "cortex-a55",
        "mattr": ["+dotprod", "+crc"],
    }
    assert "asimddp" in target.requires


def test_a_known_processor_brings_its_target() -> None:
    assert get_target("llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a53").like == "arm-a53"
    assert get_target("llvm -mtriple=x86_64-linux-gnu -mcpu=icelake-server").like == "x86-avx512"
    assert get_target("llvm -mtriple=armv7l-linux-gnueabihf").llvm["mfloat-abi"] == "hard"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no JSON"),
        ('{"kind": "cuda"}', "wants kind llvm"),
        ("llvm", "wants kind llvm and an mtriple"),
        ("llvm -mtriple=sparc-linux", "no kernels for sparc-linux"),
        ("llvm mtriple=x", "cannot read 'mtriple=x'"),
    ],
)
def test_a_wrong_description_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        get_target(text)


def test_unknown_words_of_a_description() -> None:
    with pytest.raises(InputError, match="unknown key 'libs'"):
        get_target("llvm -mtriple=aarch64-linux-gnu -libs=mkl")


def test_a_manifest_tells_the_instruction_that_weights_allow() -> None:
    x86 = PRESETS["x86"]
    assert x86.isa.in_pairs is not None
    target = replace(x86, isa=x86.isa.in_pairs)
    entry = json.loads(json.dumps(target.to_json()))
    assert entry["int8"] == "pmaddubsw"
    again = restore_target(entry, PRESETS)
    assert again is not None
    assert (again.to_json(), again.isa) == (entry, target.isa)


@pytest.mark.parametrize("name", [*PRESETS, *BOARDS, "llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a55"])
def test_a_manifest_tells_the_target(name: str) -> None:
    target = get_target(name)
    entry = json.loads(json.dumps(target.to_json()))
    again = restore_target(entry, PRESETS)
    assert again is not None
    assert again.to_json() == entry
    assert again.isa == target.isa
    assert restore_target({**entry, "triple": "mips-linux"}, PRESETS) is None
    assert restore_target({**entry, "name": "x", "like": "y"}, PRESETS) is None
