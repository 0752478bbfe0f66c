"""What could be cheaper, layer by layer, and on what ground that is said.

    wasted lanes         slots of the packed weights that hold none; counted from the layout of the target
    memory bound         moving its bytes takes clearly longer than its sums, by the declared balance of the CPU
                         (`balance`); where times were measured, only layers that also run at less than half the
                         rate of the fastest tenth of their precision are named
    cheaper in 8 bits    its 8-bit form would take less time: measured (both kernels run here), else estimated from
                         the same balance

Every line says its basis. Only layers that matter are named: at least 0.2 % of the MACs or of the estimated cycles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bhpe_compile.report.balance import Balance, Cycles, estimate
from bhpe_compile.report.cost import BINARY, INT8, LINEAR, Costs, Layer
from bhpe_compile.report.figures import render_bytes, render_count
from bhpe_compile.report.layout import packing
from bhpe_compile.targets.isa import VectorIsa

WASTED, MEMORY, CHEAPER = "wasted lanes", "memory bound", "cheaper in 8 bits"

LEAST_WASTE = 0.15
"""Smaller shares of unused lanes are not worth a line."""

LEAST_SHARE = 0.002
"""A layer below this part of the network's MACs or cycles is left out."""

SLOW = 0.5
"""A memory-bound layer runs at less than this part of the best rate of its precision."""

BOUND = 1.25
"""Moving the bytes must take so many times as long as the sums: the balance is not known better than that."""

MARGIN = 0.95
"""A measured 8-bit form must take less than this part of the time: closer is noise."""

FILL = "when the network is designed, choose multiples of the words and vectors named: filling the lanes costs no time"
MOVE_LESS = (
    "fewer bytes help here, fewer bits do not: float16 residuals, smaller maps, one pass over two layers"
)
KEEP = "--keep-float with its name: more bytes, less time"

COUNTED, MEASURED = "counted", "measured here"


@dataclass(frozen=True)
class Advice:
    """One line: the layer, what is wrong, how much (`amount`, a share or a ratio), what to do, and the basis."""

    kind: str
    layer: str
    what: str
    amount: float
    todo: str
    basis: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Twin:
    """Measured nanoseconds of a binary layer's kernel and of its 8-bit form, quantizing its input included."""

    binary_ns: float
    int8_ns: float


def advise(
    costs: Costs, isa: VectorIsa, balance: Balance | None, twins: Mapping[str, Twin] | None = None
) -> tuple[Advice, ...]:
    """Advice for a compiled or predicted network on a CPU, the layers with the most work first.

    balance: None where nobody declared one; nothing is estimated then. twins: measured pairs by layer.
    """
    layers = [layer for layer in costs.layers if layer.trained]
    macs = sum(layer.macs for layer in layers)
    found: list[tuple[float, Advice]] = []
    for layer in layers:
        if layer.macs >= LEAST_SHARE * macs:
            found += [(layer.macs * a.amount, a) for a in _wasted(layer, isa)]
    found.sort(key=lambda pair: -pair[0])
    if balance is not None:
        found += _estimated(layers, isa, balance, twins or {})
    elif twins:
        found += [(0, a) for layer in layers if layer.name in twins for a in _twin(layer, twins[layer.name])]
    return tuple(advice for _, advice in found)


def _wasted(layer: Layer, isa: VectorIsa) -> list[Advice]:
    packed = packing(layer, isa)
    if packed.wasted < LEAST_WASTE:
        return []
    binary = layer.precision == BINARY
    unit = isa.word_bits if binary else isa.int8.group
    lanes = isa.popcount_lanes if binary else isa.int8.lanes if layer.precision == INT8 else isa.float_lanes
    reasons = []
    if packed.inputs < packed.input_slots:
        reasons.append(f"{layer.in_channels} input channels in words of {unit}")
    if packed.outputs < packed.output_slots:
        reasons.append(f"{layer.out_channels} output channels in vectors of {lanes}")
    what = f"{100 * packed.wasted:.0f} % of its lanes are empty: {' and '.join(reasons)}"
    return [Advice(WASTED, layer.name, what, round(packed.wasted, 4), FILL, COUNTED)]


def _estimated(
    layers: Sequence[Layer], isa: VectorIsa, balance: Balance, twins: Mapping[str, Twin]
) -> list[tuple[float, Advice]]:
    cycles = {layer.name: estimate(layer, balance, isa) for layer in layers}
    whole = sum(one.total for one in cycles.values())
    best = _best_rates(layers)
    bound: list[tuple[float, Advice]] = []
    cheaper: list[tuple[float, Advice]] = []
    for layer in layers:
        mine = cycles[layer.name]
        if layer.name in twins:
            cheaper += [(mine.total, a) for a in _twin(layer, twins[layer.name])]
        if mine.total < LEAST_SHARE * whole:
            continue
        bound += [(mine.total, a) for a in _memory_bound(layer, mine, balance, best)]
        if layer.name not in twins:
            cheaper += [(mine.total, a) for a in _cheaper(layer, mine, isa, balance)]
    return sorted(bound, key=lambda p: -p[0]) + sorted(cheaper, key=lambda p: -p[0])


def _best_rates(layers: Sequence[Layer]) -> dict[str, float]:
    """MACs a millisecond that the fastest tenth of each precision reaches; only of measured layers."""
    rates: dict[str, list[float]] = {}
    for layer in layers:
        if layer.ms:
            rates.setdefault(layer.precision, []).append(layer.macs / layer.ms)
    return {precision: sorted(found)[-1 - len(found) // 10] for precision, found in rates.items()}


def _memory_bound(layer: Layer, cycles: Cycles, balance: Balance, best: Mapping[str, float]) -> list[Advice]:
    if cycles.memory < BOUND * cycles.sums:
        return []
    ratio = cycles.memory / cycles.sums
    moved, sums = render_bytes(layer.traffic + layer.nbytes), render_count(layer.macs)
    what = f"moves {moved} for {sums} MACs, {ratio:.1f} times as long as its sums"
    basis = f"declared balance: {balance.source}"
    if layer.ms:
        rate = layer.macs / layer.ms / best[layer.precision]
        if rate >= SLOW:
            return []
        what = f"runs at {100 * rate:.0f} % of the best {layer.precision} rate; {what}"
        basis = f"{MEASURED}, and {basis}"
    return [Advice(MEMORY, layer.name, what, round(ratio, 3), MOVE_LESS, basis)]


def _cheaper(layer: Layer, cycles: Cycles, isa: VectorIsa, balance: Balance) -> list[Advice]:
    """By the balance: the same layer with 8-bit weights, levels in, float16 out, no local residual."""
    if layer.precision != BINARY or layer.kind == LINEAR:
        return []
    other = replace(layer, precision=INT8, traffic=layer.inputs + 2 * layer.outputs, nbytes=0)
    other = replace(other, nbytes=packing(other, isa).nbytes)
    ratio = estimate(other, balance, isa).total / cycles.total
    if ratio >= 1:
        return []
    what = f"its 8-bit form is estimated at {ratio:.2f} of its cycles, for {render_bytes(other.nbytes)} of weights"
    return [_keep(layer, what, ratio, f"declared balance: {balance.source}")]


def _twin(layer: Layer, twin: Twin) -> list[Advice]:
    ratio = twin.int8_ns / twin.binary_ns
    if ratio >= MARGIN:
        return []
    what = f"{twin.int8_ns / 1e3:.1f} us in 8 bits, {twin.binary_ns / 1e3:.1f} us as it is"
    return [_keep(layer, what, ratio, MEASURED)]


def _keep(layer: Layer, what: str, ratio: float, basis: str) -> Advice:
    return Advice(CHEAPER, layer.name, what, round(ratio, 4), KEEP, basis)


__all__ = ["CHEAPER", "MEMORY", "WASTED", "Advice", "Twin", "advise"]
