"""What a core can do in a cycle, declared: multiply-accumulates by precision, and bytes from the cache behind L1.

A cycle count from these is an estimate that ranks layers; it is never shown as a time. Sources:

    x86, AVX-512     loops of xor + vpopcntd + add from L1, of vpdpbusd and of FMA, timed on Zen 4
    x86, AVX2        derived from benchmarks/results/latest.json, Zen 4 again: binary convolutions take 2.1 times as
                     long as with AVX-512 (geometric mean), 8-bit layers four times
    AArch64          binary: llvm-mca on our inner loop (docs/performance.md; cortex-a76 as neoverse-n1);
                     8-bit and float: assumed, from what smlal, sdot and fmla can do at most
    ARMv7            assumed: a quarter of what the Cortex-A53 does in 64 bits, with half the registers and pipes
    RISC-V, wasm     assumed: popcounts of shifts and adds; wasm as a 128-bit x86 engine runs it
    bytes a cycle    assumed everywhere: what one core streams from L2 and beyond
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bhpe_compile.report.cost import BINARY, FLOAT16, FLOAT32, INT8, LINEAR, Layer
from bhpe_compile.report.layout import packing
from bhpe_compile.targets.int8_instructions import PMADDUBSW
from bhpe_compile.targets.isa import VectorIsa


@dataclass(frozen=True)
class Balance:
    """MACs a cycle by precision and bytes a cycle of one core; `source` in words."""

    binary: float
    int8: float
    floats: float
    nbytes: float
    source: str

    def macs(self, layer: Layer) -> float:
        """MACs a cycle in the arithmetic of `layer`; the inputs of 8-bit linear layers are three bytes."""
        if layer.precision == INT8 and layer.kind == LINEAR:
            return self.int8 / 3
        rates = {BINARY: self.binary, INT8: self.int8, FLOAT16: self.floats, FLOAT32: self.floats}
        return rates[layer.precision]


_TIMED = "MACs a cycle timed on Zen 4, bytes a cycle assumed"
_DERIVED = "MACs a cycle derived from AVX2 kernels timed on Zen 4, bytes a cycle assumed"
_ASSUMED = "all assumed"
_ANALYSED = "binary MACs a cycle by llvm-mca, 8-bit and float ones and bytes a cycle assumed"

BALANCES: Mapping[str, Balance] = {
    "icelake-server": Balance(331, 64, 16, 16, _TIMED),
    "x86-64-v3": Balance(156, 16, 16, 16, _DERIVED),
    "cortex-a53": Balance(34.9, 4, 2.7, 4, _ANALYSED),
    "cortex-a72": Balance(81.9, 8, 4, 8, _ANALYSED),
    "cortex-a76": Balance(81.9, 32, 8, 16, _ANALYSED),
    "cortex-a7": Balance(9, 2, 1, 2, _ASSUMED),
    "generic-rv64": Balance(2.5, 0.5, 0.5, 4, _ASSUMED),
    "generic-rv64+v": Balance(12, 4, 2, 8, _ASSUMED),
    "wasm32": Balance(40, 8, 8, 8, _ASSUMED),
}
"""By the `mcpu` of a target's LLVM dictionary, with `+v` for RISC-V vectors."""


PAIRS = 1.3
"""So many times as many 8-bit products a cycle where AVX2 multiplies bytes: ResNet-50 in results/avx2.json."""


def balance_of(llvm: Mapping[str, Any], isa: VectorIsa | None = None) -> Balance | None:
    """The balance of the CPU a target is compiled for; None for one nobody declared. isa: its vector unit, which says
    how 8-bit weights are multiplied."""
    if llvm.get("mtriple", "").startswith("wasm"):
        return BALANCES["wasm32"]
    vectors = "+v" if "+v" in llvm.get("mattr", ()) else ""
    found = BALANCES.get(llvm.get("mcpu", "") + vectors)
    if found is not None and isa is not None and isa.int8 == PMADDUBSW:
        return replace(found, int8=PAIRS * found.int8)
    return found


@dataclass(frozen=True)
class Cycles:
    """Estimated cycles of a layer if only its sums, or only its bytes, took time."""

    sums: float
    memory: float

    @property
    def total(self) -> float:
        """The larger of both."""
        return max(self.sums, self.memory)


def estimate(layer: Layer, balance: Balance, isa: VectorIsa) -> Cycles:
    """Cycles of `layer`; unused lanes are computed like the others."""
    computed = layer.macs / (1 - packing(layer, isa).wasted)
    return Cycles(computed / balance.macs(layer), (layer.traffic + layer.nbytes) / balance.nbytes)
