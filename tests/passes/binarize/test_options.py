"""Options: presets, globs, and the dictionary a checkpoint stores."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.passes.binarize import (
    BIDRN,
    BNN,
    REACTNET,
    SCHEMES,
    BinarizeOptions,
    Scheme,
    binarize,
    get_scheme,
)
from tests.passes.binarize.nets import Whole


def test_presets() -> None:
    assert list(SCHEMES) == ["bidrn", "bnn", "reactnet"]
    assert BIDRN.local_residual
    assert BIDRN.binary_branches
    assert not BIDRN.binary_shortcuts
    assert not BIDRN.learnable_threshold
    assert not BNN.local_residual
    assert BNN.activation == "hardtanh"
    assert BNN.binary_shortcuts
    assert not BNN.binary_branches
    assert REACTNET.learnable_threshold
    assert REACTNET.activation == "rprelu"
    assert REACTNET.binary_shortcuts


def test_unknown_scheme_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown scheme 'birdn'.*did you mean bidrn\?"):
        get_scheme("birdn")


def test_unknown_residual_tap() -> None:
    with pytest.raises(UsageError, match="must be after or before"):
        BinarizeOptions(residual_tap="beside")  # type: ignore[arg-type]


schemes = st.builds(
    Scheme,
    name=st.text(max_size=8),
    learnable_threshold=st.booleans(),
    local_residual=st.booleans(),
    activation=st.sampled_from(["rprelu", "hardtanh"]),
    binary_shortcuts=st.booleans(),
    binary_branches=st.booleans(),
    surrogate=st.sampled_from(["bireal", "ste"]),
)
globs = st.lists(st.text(max_size=8), max_size=3).map(tuple)
options = st.builds(
    BinarizeOptions,
    scheme=schemes,
    keep_float=globs,
    binarize=globs,
    residual_tap=st.sampled_from(["after", "before"]),
)


@given(options)
def test_dictionary_round_trip_through_json(one: BinarizeOptions) -> None:
    assert BinarizeOptions.from_dict(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"surprise": 1}, "unknown or missing surprise"),
        ({"residual_tap": "beside"}, "residual_tap 'beside'"),
        ({"keep_float": "abc"}, "keep_float must be a list of strings"),
        ({"binarize": [1]}, "binarize must be a list of strings"),
        ({"scheme": "bidrn"}, "a mapping is needed, not str"),
        ({"scheme": {"name": "x"}}, "unknown or missing activation"),
        ({"scheme": BIDRN.__dict__ | {"activation": "relu"}}, "activation 'relu'"),
        ({"scheme": BIDRN.__dict__ | {"local_residual": "yes"}}, "local_residual must be a bool"),
    ],
)
def test_damaged_dictionaries_are_refused_by_field(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        BinarizeOptions.from_dict(BinarizeOptions().to_dict() | change)


def test_what_is_no_dictionary_is_refused() -> None:
    with pytest.raises(InputError, match="a mapping is needed, not list"):
        BinarizeOptions.from_dict([])  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["keep_float", "binarize"])
def test_a_glob_that_matches_nothing_is_a_usage_error(option: str) -> None:
    given_glob: dict[str, Any] = {option: ("backbone.layer2.1.conf3",)}
    flag = option.replace("_", "-")
    with pytest.raises(
        UsageError, match=rf"--{flag} 'backbone.layer2.1.conf3' matches no layer; near: .*conv3"
    ):
        binarize(Whole(), BinarizeOptions(**given_glob))


def test_a_glob_near_nothing_shows_what_layers_look_like() -> None:
    with pytest.raises(UsageError, match=r"layers look like backbone\.conv1"):
        binarize(Whole(), BinarizeOptions(keep_float=("0",)))
