"""What the options of a compilation mean, and which contradict each other."""

from __future__ import annotations

from typing import Any

import pytest

from bhpe_compile.compiler.options import BINARY_SCHEMES, SCHEMES, CompileOptions
from bhpe_compile.errors import UsageError
from bhpe_compile.passes import binarize


def test_every_binary_scheme_has_its_passes() -> None:
    assert tuple(binarize.SCHEMES) == BINARY_SCHEMES
    assert (*BINARY_SCHEMES, "int8", "float") == SCHEMES


@pytest.mark.parametrize(
    ("said", "binary", "int8", "half"),
    [
        ({}, True, True, True),
        ({"scheme": "bnn", "dense": "fp32"}, True, False, True),
        ({"scheme": "reactnet", "residual": "fp32"}, True, True, False),
        ({"scheme": "int8"}, False, True, False),
        ({"scheme": "int8", "dense": "int8"}, False, True, False),
        ({"scheme": "float"}, False, False, False),
        ({"scheme": "float", "dense": "fp32"}, False, False, False),
    ],
)
def test_what_computes_how(said: dict[str, Any], binary: bool, int8: bool, half: bool) -> None:
    options = CompileOptions("x86", **said)
    assert (options.is_binary, options.computes_int8, options.keeps_half) == (binary, int8, half)
    recorded = options.to_dict()
    assert recorded["scheme"] == said.get("scheme", "bidrn")
    assert recorded["dense"] == ("int8" if int8 else "fp32")
    assert recorded["residual"] == ("fp16" if half else "fp32")


def test_pairs_of_weights_are_for_8_bits() -> None:
    assert CompileOptions("x86", scheme="int8", pair_safe=True).to_dict()["pair_safe"] is True
    assert CompileOptions("x86").to_dict()["pair_safe"] is False
    for said in ({"scheme": "float"}, {"dense": "fp32"}):
        with pytest.raises(UsageError, match="--pair-safe is for 8-bit weights"):
            CompileOptions("x86", pair_safe=True, **said)  # type: ignore[arg-type]


def test_float_with_8_bits_is_the_scheme_int8() -> None:
    assert (
        CompileOptions("x86", scheme="float", dense="int8").to_dict()
        == CompileOptions("x86", scheme="int8").to_dict()
    )


def test_what_is_refused() -> None:
    with pytest.raises(
        UsageError, match="--scheme int8 --dense fp32 contradict each other: say --scheme float"
    ):
        CompileOptions("x86", scheme="int8", dense="fp32")
    with pytest.raises(UsageError, match=r"unknown scheme 'int4'.*did you mean int8"):
        CompileOptions("x86", scheme="int4")


TRAINED = binarize.BinarizeOptions(binarize.REACTNET, residual_tap="before").to_dict()


def test_a_binary_checkpoint_keeps_its_scheme() -> None:
    options = CompileOptions("x86", dense="fp32").for_trained("m.pt", TRAINED)
    assert (options.scheme, options.residual_tap, options.dense) == ("reactnet", "before", "fp32")
    own = TRAINED | {"scheme": TRAINED["scheme"] | {"name": "mine"}}
    assert CompileOptions("x86").for_trained("m.pt", own) == CompileOptions("x86")


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"keep_float": ("a",)}, r"m\.pt: is binary already.*leave out --keep-float"),
        ({"binarize": ("a",)}, r"m\.pt: is binary already"),
        ({"scheme": "int8"}, r"m\.pt: is binary already; --scheme int8 is for full-precision"),
        ({"scheme": "float"}, r"m\.pt: is binary already; --scheme float is for full-precision"),
    ],
)
def test_a_binary_checkpoint_cannot_be_chosen_anew(said: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        CompileOptions("x86", **said).for_trained("m.pt", TRAINED)
