"""Networks of the field as descriptions: published layouts are recognised, damage is named, figures hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bhpe_compile.compiler.described import check_outputs
from bhpe_compile.errors import InputError
from bhpe_compile.frontends.checkpoint import load_model
from bhpe_compile.networks.cliff.module import CLIFF, BedlamCLIFF
from bhpe_compile.networks.layers.trunk import HRNET_W48
from bhpe_compile.networks.registry import get_network
from tests.command import inside
from tests.networks.counting import on_meta


@dataclass(frozen=True)
class Case:
    """A network, the prefix of its published keys, and its figures."""

    name: str
    prefix: str
    parameters: int
    macs: int
    binary_macs: int


CASES = [
    Case("spin", "", 26_977_501, 4_097_538_048, 3_609_460_736),
    Case("cliff-r50", "module.", 26_980_573, 4_014_136_320, 3_535_798_272),
]

each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def published(case: Case) -> dict[str, Tensor]:
    """The keys of a published file, every value 0.5."""
    state = on_meta(lambda: get_network(case.name).build("full")).state_dict()
    return {case.prefix + name: torch.full(t.shape, 0.5, dtype=t.dtype) for name, t in state.items()}


def written(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "published.pt")
    return folder / "published.pt"


@each
def test_a_published_checkpoint_is_recognised(case: Case, tmp_path: Path) -> None:
    state = published(case)
    assert len(state) == 331
    extra = {f"{case.prefix}smpl.faces": torch.zeros(3)}
    loaded = load_model(written(tmp_path, {"epoch": 3, "model": state | extra}))
    assert loaded.spec == f"{case.name}:full"
    assert loaded.layout == "public"
    assert loaded.ignored == ("smpl.faces",)
    assert loaded.interface == get_network(case.name).interface("full")
    values = loaded.model.state_dict()
    assert {case.prefix + name for name in values} == state.keys()
    assert all(bool((value == 0.5).all()) for value in values.values() if value.is_floating_point())


@each
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("missing", "2 missing: deccam.weight, deccam.bias"),
        ("unexpected", "1 unexpected: fc3.weight"),
        ("misshapen", r"decshape.bias has shape \(11,\), the network needs \(10,\)"),
    ],
)
def test_what_is_wrong_is_named(case: Case, damage: str, says: str, tmp_path: Path) -> None:
    state = published(case)
    if damage == "missing":
        del state[f"{case.prefix}deccam.weight"], state[f"{case.prefix}deccam.bias"]
    elif damage == "unexpected":
        state[f"{case.prefix}fc3.weight"] = torch.zeros(3)
    else:
        state[f"{case.prefix}decshape.bias"] = torch.zeros(11)
    with pytest.raises(InputError, match=rf"published\.pt: .*{says}") as caught:
        load_model(written(tmp_path, {"model": state}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrapper", "prefix", "model"),
    [("model", "module.", lambda: CLIFF(HRNET_W48)), ("state_dict", "model.", BedlamCLIFF)],
    ids=["cliff-hr48", "bedlam-cliff"],
)
def test_relatives_are_not_taken_for_them(wrapper: str, prefix: str, model: Any, tmp_path: Path) -> None:
    """They share a regressor and its keys; the trunk is another."""
    state = {prefix + name: torch.zeros(1) for name in on_meta(model).state_dict()}
    with pytest.raises(InputError, match="no model in it"):
        load_model(written(tmp_path, {wrapper: state}))


@each
def test_the_module_does_what_is_described(case: Case) -> None:
    network = get_network(case.name)
    interface = network.interface("full")
    model: nn.Module = on_meta(lambda: network.build("full"))
    outputs = model(*(torch.empty(port.shape, device="meta") for port in interface.inputs))
    check_outputs(interface, outputs)
    assert tuple(outputs) == tuple(port.name for port in interface.outputs)
    assert len(interface.outputs[0].names) == 24


@each
def test_report(case: Case) -> None:
    """Layers of the regressor are called three times: their operations count thrice, their weights once."""
    answer = inside("report", "--network", case.name, "--scheme", "bidrn", "--format", "json")
    assert answer.code == 0, answer.stderr
    report = json.loads(answer.stdout)
    assert report["original"]["params"]["total"] == case.parameters
    assert report["original"]["ops"]["macs"] == case.macs
    assert report["compiled"]["params"]["binary"] == 20_676_608
    assert report["compiled"]["ops"]["binary_macs"] == case.binary_macs
    assert sum(report["weights"]["before"].values()) < case.parameters
    layers = {layer["name"]: layer for layer in report["layers"]}
    assert [layers[name]["weights"] for name in ("fc2", "fc2#1", "fc2#2")] == [1024 * 1024, 0, 0]
    assert [layers[name]["macs"] for name in ("fc2", "fc2#1", "fc2#2")] == [1024 * 1024] * 3
    assert {layer["stage"] for layer in layers.values()} == {"trunk", "regressor"}
    stages = {layer["stage"] for name, layer in layers.items() if name.startswith(("fc", "dec"))}
    assert stages == {"regressor"}
