"""The passes of the lowering: their order, and what each needs and ensures."""

from __future__ import annotations

import pytest

from bhpe_compile.passes.base import PassManager, PassOrderError
from bhpe_compile.passes.lower import lower_passes
from tests.passes.lower.graphs import small_network

ORDER = {
    "slice-gathers": ((), ()),
    "select-kernels": (("packed weights", "explicit padding", "written means"), ("kernels",)),
    "fuse-epilogue": (("kernels",), ("fused epilogues",)),
    "write-out-operators": (("fused epilogues",), ("standard operations",)),
    "channel-last": (("fused epilogues", "standard operations"), ("channel last",)),
    "pack-activations": (("channel last",), ("packed activations",)),
    "quantize-activations": (("channel last",), ("quantized activations",)),
    "write-levels": (("quantized activations",), ()),
    "narrow-storage": (("packed activations", "quantized activations"), ("narrow storage",)),
    "select-transposes": (("channel last",), ()),
    "select-conversions": (("narrow storage",), ()),
    "choose-tiles": (("packed activations",), ()),
}


def test_names_needs_and_promises() -> None:
    passes = lower_passes()
    assert [one.name for one in passes] == list(ORDER)
    assert {one.name: (one.requires, one.ensures) for one in passes} == ORDER


def test_they_run_on_what_folding_establishes() -> None:
    manager = PassManager(lower_passes(), {"packed weights", "explicit padding", "written means"})
    manager.run(small_network())
    assert [record.name for record in manager.records] == list(ORDER)
    with pytest.raises(
        PassOrderError, match="select-kernels needs packed weights, explicit padding, written means"
    ):
        PassManager(lower_passes()).run(small_network())
