"""A processor or a feature that LLVM does not know is refused: it would only warn, and compile for another."""

from __future__ import annotations

import pytest

from bhpe_compile.errors import UsageError
from bhpe_compile.passes.lower.tasks import check_processor
from bhpe_compile.targets import BOARDS, PRESETS, get_target

ARM = {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}


@pytest.mark.parametrize("name", [*PRESETS, *BOARDS])
def test_our_own_are_known(name: str) -> None:
    check_processor(get_target(name).llvm)


def test_features_taken_away_are_known() -> None:
    check_processor({**ARM, "mcpu": "cortex-a55", "mattr": ["-crc", "+dotprod"]})


def test_an_unknown_processor() -> None:
    with pytest.raises(
        UsageError, match=r"no processor cortex-a7x for aarch64-linux-gnu; it knows .*cortex-a7"
    ):
        check_processor({**ARM, "mcpu": "cortex-a7x"})


@pytest.mark.parametrize("word", ["+dotprd", "-dotprd"])
def test_an_unknown_feature(word: str) -> None:
    with pytest.raises(UsageError, match="no feature dotprd for aarch64-linux-gnu"):
        check_processor({**ARM, "mcpu": "cortex-a55", "mattr": ["+crc", word]})
