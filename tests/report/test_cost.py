"""The three conventions, by hand."""

from __future__ import annotations

import pytest

from bhpe_compile.networks.hand4whole.description import NETWORK
from bhpe_compile.report.cost import (
    BINARY,
    FLOAT16,
    FLOAT32,
    INT8,
    LINEAR,
    TRANSPOSED,
    Costs,
    counts_as_binary,
    paper_operations,
    paper_parameters,
)
from bhpe_compile.report.figures import render_bytes, render_count, render_ratio, render_share
from tests.report.made_up import layer

MACS = 64 * 64 * 9 * 64 * 48
OUTPUTS = 64 * 64 * 48


@pytest.mark.parametrize(
    ("precision", "bits"), [(BINARY, 1), (INT8, 64), (FLOAT16, 16 * 32), (FLOAT32, 32 * 32)]
)
def test_bit_operations(precision: str, bits: int) -> None:
    assert layer(precision=precision).bit_operations == bits * MACS


def test_an_8_bit_linear_layer_reads_three_bytes() -> None:
    assert layer(precision=INT8, kind=LINEAR).bits == (8, 24)


def test_three_conventions_side_by_side() -> None:
    costs = Costs((layer("a"), layer("b", INT8), layer("c", FLOAT16)), "none of the schemes")
    found = costs.operations()
    assert (found.macs_1bit, found.macs_8bit, found.macs_float) == (MACS, MACS, MACS)
    assert found.bit_operations == (1 + 64 + 512) * MACS
    assert found.paper == 2 * MACS + MACS / 64  # "a" is no trunk: no element-wise operations


def test_papers_element_wise_operations() -> None:
    """One per output; in bidrn k for a Fusion Down (64 -> 16 channels: 4), and BoxNet's deconvolutions as well."""
    down = layer("down", in_channels=64, out_channels=16, role="core")
    up = layer("up", kind=TRANSPOSED, role="branch")
    for scheme, extra in (("bidrn", 4 * 16 * 64 * 48 + OUTPUTS), ("bnn", 16 * 64 * 48)):
        assert paper_operations([down, up], scheme) == (down.macs + up.macs) / 64 + extra
    assert (
        paper_operations([layer("stem", FLOAT32, role="stem")], "float") == MACS
    )  # nothing binary: nothing extra


def test_papers_parameters() -> None:
    one = layer(in_channels=32, out_channels=64)
    weights = 32 * 64 * 9
    assert paper_parameters([one], 100_000, "bnn") == (100_000, 100_000 - weights + weights / 32)
    assert paper_parameters([one], 100_000, "reactnet")[0] == 100_000 + 32
    assert paper_parameters([one], 100_000, "bidrn")[0] == 100_000 + 3 * 64


def test_binary_linear_layers_are_full_precision_to_the_paper() -> None:
    assert not counts_as_binary(layer("box_net.lhand_size.0", kind=LINEAR))
    assert counts_as_binary(layer())


def test_constants_of_formulas_are_not_operations_of_the_paper() -> None:
    assert paper_operations([layer("Gemm_1", FLOAT16, trained=False)], "bidrn") == 0


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("backbone.layer1.0.conv1", "body trunk"),
        ("hand_roi_net.backbone.conv1", "hands"),
        ("body_rotation_net.body_conv.0", "heads"),
        ("face_regressor.expr_out.0", "heads"),
        ("box_net.deconv.0", "box net"),
        ("Gemm_606", "other"),
    ],
)
def test_stages(name: str, stage: str) -> None:
    assert NETWORK.stage_of(name) == stage


def test_stages_add_up() -> None:
    costs = Costs((layer("a", stage="body trunk"), layer("b", stage="hands"), layer("c", stage="other")))
    assert costs.by_stage(lambda one: one.nbytes) == {
        "body trunk": costs.layers[0].nbytes,
        "hands": costs.layers[1].nbytes,
        "other": costs.layers[2].nbytes,
    }
    assert sum(costs.by_stage(lambda one: one.nbytes).values()) == costs.layer_bytes


def test_figures() -> None:
    assert render_bytes(4_560_000) == "4.56 MB"
    assert render_count(1.828e13) == "18.28 T"
    pairs = ((1, 4), (4, 1), (1, 0), (1, 10**6), (0, 5), (749, 10_000), (97, 100), (104, 100), (100, 100.001))
    assert [render_ratio(*pair) for pair in pairs] == [
        *("4 times smaller", "4 times larger", "-", "1000000 times smaller", "-", "13.4 times smaller"),
        *("3.0 % smaller", "4.0 % larger", "the same"),
    ]
    assert render_ratio(1, 3, ("faster", "slower")) == "3 times faster"
    assert render_share(1, 8) == "12.5 %"
    assert render_share(1, 0) == "-"
