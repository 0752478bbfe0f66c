"""What the host can run, from the text of /proc/cpuinfo."""

from __future__ import annotations

import os
import platform
from dataclasses import replace

import pytest

from bhpe_compile.errors import UsageError
from bhpe_compile.targets import Target, host, host_runs, native_target
from bhpe_compile.targets.aarch64 import ARM, ARM_A53, ARM_A76, V8, V8_2
from bhpe_compile.targets.x86 import ICELAKE, V3, X86, X86_AVX512


def become(patch: pytest.MonkeyPatch, name: str, features: tuple[str, ...], system: str = "Linux") -> None:
    """Tell the functions under test that they run on another machine."""
    patch.setattr(platform, "machine", lambda: name)
    patch.setattr(platform, "system", lambda: system)
    patch.setattr(host, "host_features", lambda: frozenset(features))


def test_features_of_x86() -> None:
    text = "processor\t: 0\nflags\t\t: fpu avx2 fma\nbugs\t: x\n\nprocessor\t: 1\nflags\t\t: fpu avx2\n"
    assert host.parse_features(text) == {"fpu", "avx2"}


def test_features_of_arm_are_those_of_every_core() -> None:
    text = "processor\t: 0\nFeatures\t: fp asimd asimddp\n\nprocessor\t: 1\nFeatures\t: fp asimd\n"
    assert host.parse_features(text) == {"fp", "asimd"}


def test_no_features_in_another_text() -> None:
    assert host.parse_features("") == frozenset()
    assert host.parse_features("model name: Some CPU\n") == frozenset()


@pytest.mark.parametrize(
    ("name", "features", "preset"),
    [
        ("x86_64", V3, X86),
        ("AMD64", ICELAKE, X86_AVX512),
        ("x86_64", tuple(f for f in ICELAKE if f != "avx512_vpopcntdq"), X86),
        ("aarch64", V8_2, ARM_A76),
        ("arm64", V8, ARM_A53),
    ],
)
def test_native_is_the_most_demanding_that_runs(
    name: str, features: tuple[str, ...], preset: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, name, features)
    found = native_target()
    assert found.name == "native"
    assert found == replace(preset, name="native", summary=found.summary, emulator=None, tiles=preset.name)
    assert host_runs(found)


@pytest.mark.parametrize(
    ("name", "features", "system"),
    [("x86_64", V3[:-1], "Linux"), ("ppc64le", (), "Linux"), ("arm64", V8_2, "Darwin"), ("", (), "Plan9")],
)
def test_native_is_refused(
    name: str, features: tuple[str, ...], system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, name, features, system)
    with pytest.raises(UsageError, match="target native: this machine"):
        native_target()
    assert not host_runs(X86)
    assert not host_runs(ARM)


def test_a_32_bit_process_on_a_64_bit_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raspberry Pi OS: `uname` says aarch64, and /proc/cpuinfo has the names of 64-bit features."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr("sys.maxsize", (1 << 31) - 1)
    monkeypatch.setattr(host, "auxiliary", lambda kind: 1 << 12 | 1 << 13 | 1 << 16 if kind == 16 else 0)
    assert host.host_family() == "armv7"
    assert host.host_features.__wrapped__() == {"neon", "vfpv3", "vfpv4"}
    monkeypatch.setattr(host, "host_features", host.host_features.__wrapped__)
    assert native_target().family == "armv7"
    assert host.missing_features("aarch64", ()) == ("aarch64",)
    assert all(set(preset.requires) <= host.ARMV7_BITS.keys() for preset in host.arm32.PRESETS)


def test_the_kernel_tells_its_page_size() -> None:
    """AT_PAGESZ, to see that words of the auxiliary vector arrive."""
    assert host.auxiliary(6) == os.sysconf("SC_PAGESIZE")
