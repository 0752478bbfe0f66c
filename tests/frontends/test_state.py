"""State dicts: every fault is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from bhpe_compile.errors import InputError
from bhpe_compile.frontends.state import load_state
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY


@pytest.fixture(scope="module")
def tiny() -> Hand4Whole:
    return initialise(Hand4Whole(TINY), 3)


def test_batch_counters_may_be_missing(tiny: Hand4Whole) -> None:
    state = {k: v for k, v in tiny.state_dict().items() if not k.endswith("num_batches_tracked")}
    load_state(Hand4Whole(TINY), state, "x.pt")


def test_tiny_weights_in_the_public_layout_name_the_shape(tmp_path: Path, tiny: Hand4Whole) -> None:
    state = tiny.state_dict()
    state["backbone.conv1.weight"] = torch.zeros(8, 3, 7, 7)
    with pytest.raises(
        InputError, match=r"backbone\.conv1\.weight has shape \(8, 3, 7, 7\).*\(20, 3, 7, 7\)"
    ):
        load_state(Hand4Whole(TINY), state, "x.pt")


def test_nan_is_named(tiny: Hand4Whole) -> None:
    state = {k: v.clone() for k, v in tiny.state_dict().items()}
    state["face_regressor.expr_out.0.weight"][0, 0] = float("nan")
    with pytest.raises(InputError, match=r"NaN or infinity in face_regressor\.expr_out\.0\.weight"):
        load_state(Hand4Whole(TINY), state, "x.pt")


def test_a_negative_variance_is_named(tiny: Hand4Whole) -> None:
    state = {name: value.clone() for name, value in tiny.state_dict().items()}
    name = next(n for n in state if n.endswith("running_var"))
    state[name][0] = -1e-3
    with pytest.raises(InputError, match=f"a variance below 0 in {re.escape(name)}"):
        load_state(tiny, state, "x.pt")
