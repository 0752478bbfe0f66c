"""Each kind of advice fires where it should, stays silent where it should not, and says on what ground."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bhpe_compile.report import tables
from bhpe_compile.report.advice import CHEAPER, COUNTED, MEASURED, MEMORY, WASTED, Advice, Twin, advise
from bhpe_compile.report.balance import BALANCES, Balance, balance_of, estimate
from bhpe_compile.report.cost import INT8, Costs, Layer
from bhpe_compile.report.report import report_network
from bhpe_compile.targets import PRESETS
from bhpe_compile.targets.isa import AVX512
from tests.report.made_up import layer

ZEN = BALANCES["icelake-server"]
HEAVY = layer("heavy")


def advice(*layers: Layer, balance: Balance | None = ZEN, **facts: object) -> list[Advice]:
    """Advice for layers beside one that is well shaped."""
    return [a for a in advise(Costs((HEAVY, *layers)), AVX512, balance, **facts) if a.layer != "heavy"]  # type: ignore[arg-type]


def kinds(found: list[Advice]) -> list[str]:
    return [a.kind for a in found]


def test_a_well_shaped_layer_gets_none() -> None:
    assert advise(Costs((HEAVY,)), AVX512, ZEN) == ()


def test_wasted_lanes() -> None:
    (found,) = advice(layer("odd", in_channels=16, out_channels=64), balance=None)
    assert (found.kind, found.layer, found.basis) == (WASTED, "odd", COUNTED)
    assert found.amount == 0.5
    assert "50 % of its lanes are empty: 16 input channels in words of 32" in found.what


def test_wasted_outputs_of_an_8_bit_layer_name_its_vectors() -> None:
    (found,) = advice(layer("odd", INT8, out_channels=24), balance=None)
    assert "24 output channels in vectors of 16" in found.what


@pytest.mark.parametrize("channels", [32, 64, 2248])
def test_nearly_full_words_are_no_advice(channels: int) -> None:
    assert advice(layer("fine", in_channels=channels), balance=None) == []


def test_small_layers_and_formulas_are_left_out() -> None:
    assert advice(layer("small", in_channels=16, macs=HEAVY.macs // 1000), balance=None) == []
    assert advice(layer("formula", in_channels=16, trained=False), balance=None) == []


def wide(**facts: object) -> Layer:
    """1x1 64 -> 256 on 64x48 with residual: what docs/performance.md finds bound by memory."""
    made = layer("wide", in_channels=64, out_channels=256, kernel=(1, 1))
    return replace(made, traffic=made.inputs // 8 + made.outputs * 17 // 4, **facts)  # type: ignore[arg-type]


def test_memory_bound() -> None:
    found = next(a for a in advice(wide()) if a.kind == MEMORY)
    cycles = estimate(wide(), ZEN, AVX512)
    assert found.amount == pytest.approx(cycles.memory / cycles.sums, abs=1e-3)
    assert found.amount > 1
    assert found.basis == f"declared balance: {ZEN.source}"


def test_compute_bound_layers_are_no_memory_advice() -> None:
    assert MEMORY not in kinds(advice(layer("deep", in_channels=256, out_channels=256)))


def test_a_layer_that_was_measured_fast_is_not_called_memory_bound() -> None:
    fast = replace(HEAVY, name="fast", ms=1.0)
    assert MEMORY not in kinds(advice(fast, wide(ms=wide().macs / fast.macs)))
    slow = next(a for a in advice(fast, wide(ms=10 * wide().macs / fast.macs)) if a.kind == MEMORY)
    assert slow.basis.startswith(MEASURED)
    assert "runs at 10 % of the best binary rate" in slow.what


def test_cheaper_in_8_bits_by_the_balance() -> None:
    """Three channels in a word of 32 are a binary layer that computes ten times too much."""
    found = [a for a in advice(layer("thin", in_channels=3, out_channels=64)) if a.kind == CHEAPER]
    assert [a.basis for a in found] == [f"declared balance: {ZEN.source}"]
    assert found[0].amount < 1
    assert CHEAPER not in kinds(advice(layer("usual")))
    assert CHEAPER not in kinds(advice(layer("is 8-bit", INT8, in_channels=3)))


def test_cheaper_in_8_bits_measured() -> None:
    usual = layer("usual")
    found = [a for a in advice(usual, twins={"usual": Twin(100_000, 60_000)}) if a.kind == CHEAPER]
    assert [(a.basis, a.amount, a.what) for a in found] == [
        (MEASURED, 0.6, "60.0 us in 8 bits, 100.0 us as it is")
    ]
    assert CHEAPER not in kinds(advice(usual, twins={"usual": Twin(100_000, 97_000)}))  # noise


def test_a_measurement_overrules_the_balance() -> None:
    thin = layer("thin", in_channels=3, out_channels=64)
    assert CHEAPER not in kinds(advice(thin, twins={"thin": Twin(10_000, 50_000)}))


def test_every_target_has_a_declared_balance() -> None:
    assert all(balance_of(target.llvm) is not None for target in PRESETS.values())
    assert balance_of({"mcpu": "z80"}) is None


def test_json() -> None:
    (found,) = advice(layer("odd", in_channels=16), balance=None)
    assert set(found.to_json()) == {"kind", "layer", "what", "amount", "todo", "basis"}


def test_a_deployer_sees_what_an_option_follows() -> None:
    """The rest is counted in one line, and shown when asked for."""
    report = report_network("hand4whole:tiny", "bidrn", "x86-avx512", None)
    kinds_of = {one.kind for one in report.advice}
    assert WASTED in kinds_of or MEMORY in kinds_of
    few, everything = tables.advice(report), tables.advice(report, everything=True)
    hidden = sum(one.kind != CHEAPER for one in report.advice)
    assert few[-1].note == f"{hidden} lines for those who design the network (lanes, memory): --advice all"
    assert {table.title for table in few[:-1]} <= {f"Advice: {CHEAPER}"}
    assert {f"Advice: {kind}" for kind in kinds_of} == {table.title for table in everything}
