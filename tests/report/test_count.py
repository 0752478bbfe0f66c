"""Golden counts of the published network and of the paper's accounting."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict

import pytest
import torch

from bhpe_compile.errors import UsageError
from bhpe_compile.models.hand4whole import Hand4Whole
from bhpe_compile.models.presets import FULL
from bhpe_compile.models.roles import layer_role
from bhpe_compile.report.count import CostReport, count

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
def bidrn() -> CostReport:
    return count("full", "bidrn")


def test_whole_network(bidrn: CostReport) -> None:
    assert bidrn.original.params_total == 77_842_256
    assert bidrn.original.ops_macs == 17_848_406_844


def test_macs_by_module(bidrn: CostReport) -> None:
    found: dict[str, int] = defaultdict(int)
    for layer in bidrn.layers:
        found[layer.name.split(".")[0]] += layer.macs
    assert dict(found) == MODULES


@pytest.mark.parametrize(
    ("scheme", "params", "ops"), [("bnn", 21.6078, 2.6302), ("reactnet", 21.6567, 2.6302)]
)
def test_published_rows(scheme: str, params: float, ops: float) -> None:
    report = count("full", scheme).compiled
    assert report.params_paper_m == params
    assert report.ops_paper_g == ops


def test_binaryhpe_row(bidrn: CostReport) -> None:
    """The paper prints 17.22 M (0.74 - 1.03 M of it unexplained) and 2.50 G."""
    assert 16.19 <= bidrn.compiled.params_paper_m <= 16.48
    assert 2.4952 <= bidrn.compiled.ops_paper_g <= 2.5042
    assert bidrn.published is not None
    assert 0.74 <= bidrn.published.unexplained_m <= 1.03
    assert bidrn.published.unexplained_m == round(17.22 - bidrn.compiled.params_paper_m, 4)


def test_binary_layers(bidrn: CostReport) -> None:
    binary = [layer.name for layer in bidrn.layers if layer.binary]
    assert sum(layer_role(name) == "core" for name in binary) == 112
    assert sum(layer_role(name) == "box" for name in binary) == 3
    assert sum(layer.role == "shortcut" for layer in bidrn.layers) == 11
    assert sum(layer.role == "stem" for layer in bidrn.layers) == 3


def test_tiny_fits_its_budget() -> None:
    assert count("tiny", "bidrn").original.params_total * 4 <= 8_000_000


def test_parameters_by_module() -> None:
    """The table of the released configuration, weights, biases and batch norm affines together."""
    with torch.device("meta"):
        model = Hand4Whole(FULL)
    found = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    assert found == PARAMETERS
    assert sum(1 for _ in model.parameters()) == 435


def test_unknown_scheme_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="unknown scheme 'bidrm': known are float, bnn, reactnet, bidrn"):
        count("full", "bidrm")


def test_tiny_has_no_published_row() -> None:
    assert count("tiny", "bidrn").published is None


def test_counting_needs_no_compiler() -> None:
    """In a process of its own: `report` must start fast, so it may not load tvm or onnx."""
    code = (
        "import sys; from bhpe_compile.report.count import count; count('full', 'bidrn'); "
        "print([m for m in ('tvm', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_json_has_the_contract(bidrn: CostReport) -> None:
    data = bidrn.to_json()
    for side in ("original", "compiled"):
        assert set(data[side]["params"]) == {"total", "binary", "paper_m"}
        assert set(data[side]["ops"]) == {"macs", "binary_macs", "paper_g"}
