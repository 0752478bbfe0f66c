"""Golden counts of the published network and of the paper's accounting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest
import torch
from torch import nn

from bhpe_compile.errors import UsageError
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import FULL, TINY
from bhpe_compile.report.count import Accounting, Counted, account, binary_layers, count_network

MODULES = {  # MACs of one picture with both hands, measured on the released configuration
    "backbone": 4_003_725_312,
    "body_position_net": 19_660_800,
    "body_rotation_net": 186_819_340,
    "box_net": 1_451_165_184,
    "hand_roi_net": 10_676_600_832,
    "hand_position_net": 41_943_040,
    "hand_rotation_net": 136_071_728,
    "face_roi_net": 1_332_412_416,
    "face_regressor": 8_192,
}


PARAMETERS = {
    "backbone": 23_508_032,
    "body_position_net": 409_800,
    "body_rotation_net": 5_420_445,
    "box_net": 11_506_185,
    "hand_roi_net": 23_508_032,
    "hand_position_net": 327_840,
    "hand_rotation_net": 1_977_202,
    "face_roi_net": 11_176_512,
    "face_regressor": 8_208,
}


@pytest.fixture(scope="module")
def full() -> Counted:
    return count_network("hand4whole:full")


@pytest.fixture(scope="module")
def bidrn() -> Accounting:
    return account("hand4whole:full", "bidrn")


def test_whole_network(bidrn: Accounting) -> None:
    assert bidrn.original.params_total == 77_842_256
    assert bidrn.original.ops_macs == 17_848_406_844


def test_macs_by_module(full: Counted) -> None:
    found: dict[str, int] = defaultdict(int)
    for layer in full.layers:
        found[layer.name.split(".")[0]] += layer.macs
    assert dict(found) == MODULES


def test_shapes_are_those_of_torch() -> None:
    """Nothing is computed when counting; here the tiny network really runs, and its layers are watched."""
    model = Hand4Whole(TINY).eval()
    seen: dict[str, tuple[int, int]] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            seen[name] = (inputs[0].numel(), output.numel())

        return hook

    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.register_forward_hook(watch(name))
    with torch.no_grad():
        model(torch.zeros(1, 3, *TINY.image))
    assert {
        layer.name: (layer.inputs, layer.outputs) for layer in count_network("hand4whole:tiny").layers
    } == seen


@pytest.mark.parametrize(
    ("scheme", "params", "ops"), [("bnn", 21.6078, 2.6302), ("reactnet", 21.6567, 2.6302)]
)
def test_published_rows(scheme: str, params: float, ops: float) -> None:
    report = account("hand4whole:full", scheme).compiled
    assert report.params_paper_m == params
    assert report.ops_paper_g == ops


def test_binaryhpe_row(bidrn: Accounting) -> None:
    """The paper prints 17.22 M (0.74 - 1.03 M of it unexplained) and 2.50 G."""
    assert 16.19 <= bidrn.compiled.params_paper_m <= 16.48
    assert 2.4952 <= bidrn.compiled.ops_paper_g <= 2.5042
    assert bidrn.published is not None
    assert 0.74 <= bidrn.published.unexplained_m <= 1.03
    assert bidrn.published.unexplained_m == round(17.22 - bidrn.compiled.params_paper_m, 4)


def test_binary_layers(full: Counted) -> None:
    binary = binary_layers(full, "bidrn")
    assert sum(layer.role == "core" for layer in full.layers if layer.name in binary) == 112
    assert sum(name.startswith("box_net.deconv") for name in binary) == 3
    assert sum(layer.role == "shortcut" for layer in full.layers) == 11
    assert sum(layer.role == "stem" for layer in full.layers) == 3
    assert binary_layers(full, "float") == frozenset()
    shortcuts = {layer.name for layer in full.layers if layer.role == "shortcut"}
    assert shortcuts <= binary_layers(full, "bnn")
    assert shortcuts.isdisjoint(binary)


def test_tiny_fits_its_budget() -> None:
    assert count_network("hand4whole:tiny").parameters * 4 <= 8_000_000


def test_parameters_by_module() -> None:
    """The table of the released configuration, weights, biases and batch norm affines together."""
    with torch.device("meta"):
        model = Hand4Whole(FULL)
    found = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    assert found == PARAMETERS
    assert sum(1 for _ in model.parameters()) == 435


def test_unknown_scheme_is_a_usage_error() -> None:
    with pytest.raises(
        UsageError, match="unknown scheme 'bidrm': known are int8, float, bidrn, bnn, reactnet"
    ):
        account("hand4whole:full", "bidrm")


def test_tiny_has_no_published_row() -> None:
    assert account("hand4whole:tiny", "bidrn").published is None


def test_json_has_the_contract(bidrn: Accounting) -> None:
    data = bidrn.to_json()
    for side in ("original", "compiled"):
        more = {"unused"} if side == "original" else set()
        assert set(data[side]["params"]) == {"total", "binary", "paper_m"} | more
        assert set(data[side]["ops"]) == {"macs", "binary_macs", "paper_g"}
