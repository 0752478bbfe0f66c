"""The innermost loop of a binary convolution is what the tile promises, counted in the assembly."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import tvm

from bhpe_compile.kernels import BinaryConv2d, DenseConv2d, Epilogue
from bhpe_compile.passes.lower.codegen import build_library
from bhpe_compile.targets import get_target
from bhpe_compile.targets.isa import AVX2, AVX512, NEON, VectorIsa
from tests.kernels.native import assembly

KERNEL = BinaryConv2d(1, 16, 12, 256, 256, 3, 1, 1, 1, Epilogue(bits=True, bits_border=1))


def innermost(isa: VectorIsa, mark: str) -> tuple[Counter[str], list[str]]:
    """Mnemonics and lines of the basic block with most `mark` instructions, up to its backward branch."""
    blocks = re.split(r"\n(?=\.LBB)", assembly(KERNEL, isa))
    block = max(blocks, key=lambda text: text.count(f"\t{mark}"))
    lines = [line.strip() for line in block.splitlines() if re.match(r"\t[a-z]", line)]
    ends = [i for i, line in enumerate(lines) if re.match(r"j[a-z]+\t|b\.[a-z]+\t|cbn?z\t", line)]
    lines = lines[: ends[0] + 1]
    return Counter(line.split()[0] for line in lines), lines


def spills(lines: list[str], stack: str) -> list[str]:
    """Lines that store to the stack."""
    return [line for line in lines if re.search(stack, line)]


def test_avx512_counts_in_registers() -> None:
    counts, lines = innermost(AVX512, "vpopcntd")
    assert counts["vpopcntd"] == counts["vpaddd"] == 24  # 6 pixels x 4 vectors
    assert counts["vpxord"] + counts["vpxor"] == 24
    assert not spills(lines, r"%zmm\d+, .*\(%rsp")
    assert len(lines) <= 24 * 3 + 6 + 4 + 6  # and the broadcasts, the weights, the loop


def test_avx2_looks_nibbles_up() -> None:
    counts, lines = innermost(AVX2, "vpshufb")
    assert counts["vpshufb"] == counts["vpaddb"] == 16  # 4 pixels x 2 vectors x 2 nibbles
    assert not spills(lines, r"%ymm\d+, .*\(%rsp")
    assert len(lines) <= 80


def test_neon_accumulates_in_one_instruction() -> None:
    counts, lines = innermost(NEON, "uadalp")
    assert counts["eor"] == counts["cnt"] == counts["uadalp"] == 8 * 16  # words x (pixels x vectors)
    assert not spills(lines, r"^st[rp]\tq")
    assert 128 * counts["cnt"] / len(lines) >= 35  # multiply-accumulates an instruction: the performance goal


def test_armv7_converts_four_halves_at_once() -> None:
    """LLVM by itself converts them one by one, a call or three instructions each."""
    target = get_target("armv7")
    kernel = DenseConv2d(1, 8, 8, 64, 64, 3, 1, 1, Epilogue())
    functions = {kernel.symbol(): kernel.prim_func(target.isa)}
    library, _ = build_library(functions, tvm.target.Target(dict(target.llvm)), scheduled=True)
    text = library.inspect_source("asm")
    assert re.search(r"vcvt\.f32\.f16\tq", text)
    assert not re.search(r"vcvtb|vcvtt|\tbl\t__(gnu_h2f|extendhfsf2)", text)


@pytest.mark.parametrize("isa", [AVX512, AVX2, NEON], ids=lambda isa: isa.name)
def test_no_heap_and_no_runtime(isa: VectorIsa) -> None:
    text = assembly(KERNEL, isa)
    assert "AllocWorkspace" not in text
    calls = set(re.findall(r"\t(?:callq?|bl)\t([\w@*%]+)", text))
    allowed = {"memset", "memcpy", "TVMFFIErrorSetRaisedFromCStrParts"}
    known = {name.removesuffix("@PLT") for name in calls if not name.startswith(("*", "%"))}
    own = re.compile(r".*_compute_$|__tvm_set_raised_\d+$")  # functions TVM puts beside the kernel
    assert {name for name in known if not own.match(name)} <= allowed
