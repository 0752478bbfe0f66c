"""What is foretold of a network, and of a checkpoint that says how it was made binary."""

from __future__ import annotations

import pytest

from bhpe_compile.errors import InputError
from bhpe_compile.passes.binarize import SCHEMES, BinarizeOptions, get_scheme
from bhpe_compile.report.cost import BINARY, FLOAT16, INT8
from bhpe_compile.report.count import binary_layers, count_network
from bhpe_compile.report.predict import predict, trained_binary
from bhpe_compile.targets import get_target

TINY = count_network("hand4whole:tiny")


@pytest.mark.parametrize("name", SCHEMES)
def test_roles_are_the_schemes_own(name: str) -> None:
    """One truth: what a scheme's flags say is what the report counts."""
    scheme = get_scheme(name)
    roles = {layer.role for layer in TINY.layers if layer.name in binary_layers(TINY, name)}
    assert roles == scheme.binary_roles
    assert ("shortcut" in roles) == scheme.binary_shortcuts
    assert ("branch" in roles) == scheme.binary_branches


@pytest.mark.parametrize(("dense", "precision"), [("int8", INT8), ("fp32", FLOAT16)])
def test_what_stays_dense(dense: str, precision: str) -> None:
    found = predict(TINY, "bidrn", get_target("x86"), dense)
    assert {layer.precision for layer in found.layers} == {BINARY, precision}
    assert [layer.macs for layer in found.layers] == [layer.macs for layer in TINY.layers]


def test_binary_weights_take_a_bit() -> None:
    full = count_network("hand4whole:full")
    foretold = predict(full, "bidrn", get_target("x86"), "int8")
    core = {layer.name: layer for layer in foretold.layers}["backbone.layer3.1.conv2"]
    # scale, bias; slope, shift; border table; thresholds are 0
    constants = 4 * core.out_channels * (2 + 2 + 9)
    assert core.nbytes == core.weights // 8 + constants


def test_a_trained_checkpoint_keeps_its_choice() -> None:
    options = BinarizeOptions(get_scheme("bnn"), keep_float=("backbone.*",), binarize=("*position_net*",))
    scheme, binary = trained_binary(TINY, options.to_dict())
    assert scheme == "bnn"
    assert not any(name.startswith("backbone.") for name in binary)
    assert "body_position_net.conv.0" in binary
    assert not any(name.endswith("backbone.conv1") for name in binary)  # a stem never is


def test_damaged_options_are_an_input_error() -> None:
    with pytest.raises(InputError):
        trained_binary(TINY, {"scheme": {}})
