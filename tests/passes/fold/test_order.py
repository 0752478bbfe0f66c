from __future__ import annotations

import pytest

from bhpe_compile.passes.base import PassManager, PassOrderError, PassRecord
from bhpe_compile.passes.fold import fold_passes
from tests.passes.fold.graphs import Builder, op_types, run

ORDER = {
    "fold-lone-softmax": ((), ()),
    "fold-constant-features": ((), ()),
    "explicit-padding": ((), ("explicit padding",)),
    "drop-dead-hardtanh": ((), ()),
    "fold-batch-norm": ((), ("folded norms",)),
    "fold-linear": ((), ("merged linear layers",)),
    "fold-shift": (("folded norms",), ("folded shifts",)),
    "write-out-means": (("explicit padding",), ("written means",)),
    "round-constants": (("folded norms", "folded shifts"), ("rounded constants",)),
    "fold-threshold": (("folded norms", "rounded constants"), ()),
    "pack-weights": (("folded norms",), ("packed weights",)),
    "quantize-linear": (("folded norms", "merged linear layers"), ("fixed-point linear layers",)),
    "mean-of-cells": (("fixed-point linear layers",), ()),
    "quantize-dense": (("folded norms", "explicit padding"), ()),
    "level-tables": (("folded norms",), ()),
    "whole-steps": ((), ()),
    "half-shortcuts": ((), ()),
    "write-out-functions": (("folded norms",), ()),
    "half-residuals": (("packed weights",), ()),
    "clean-up": ((), ()),
}
"""What each needs and ensures."""


def test_names_needs_and_promises() -> None:
    every = fold_passes({}, half=True, imported=True)
    assert {one.name: (one.requires, one.ensures) for one in every} == ORDER
    assert [one.name for one in every] == list(ORDER)
    untrained = {"level-tables", "whole-steps", "half-shortcuts", "write-out-functions"}
    trained = [one.name for one in fold_passes({}, half=True)]
    assert trained == [name for name in ORDER if name not in untrained]
    rounding = untrained | {"quantize-linear", "mean-of-cells", "quantize-dense", "half-residuals"}
    assert [one.name for one in fold_passes()] == [name for name in ORDER if name not in rounding]


def test_packing_before_the_norms_are_folded_is_an_error() -> None:
    b = Builder()
    model = b.build(b.binary("BinaryConv2d", b.input("x", (1, 4, 4, 4)), "layer", 4))
    with pytest.raises(PassOrderError, match="folded norms"):
        PassManager(list(reversed(fold_passes()))).run(model)


def test_every_pass_leaves_a_file_that_runs() -> None:
    b = Builder(18)
    y = b.batch_norm(b.dense(b.input("x", (1, 3, 8, 8)), "stem", 8, bias=True), "norm")
    for i, kind in enumerate(("BinaryConv2d", "BinaryConvTranspose2d")):
        clip = b.clip(y, f"clip{i}")
        y = b.rprelu(b.batch_norm(b.binary(kind, clip, f"layer{i}", 8), f"norm{i}"), f"act{i}")
    model = b.build(y)
    x = b.normal(1, 3, 8, 8)
    seen = []

    def observe(record: PassRecord, graph: object) -> None:
        seen.append((record.name, run(model, x)[0].shape))

    PassManager(fold_passes()).run(model, observe)
    assert seen == [(one.name, (1, 8, 16, 16)) for one in fold_passes()]
    assert op_types(model) == [
        "Conv",
        "ChannelAffine",
        "PackedBinaryConv2d",
        "PackedBinaryConvTranspose2d",
        "RPReLU",
    ]
