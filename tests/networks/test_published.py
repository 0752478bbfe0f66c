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
from bhpe_compile.frontends.published import recognise
from bhpe_compile.networks.registry import get_network
from tests.command import inside
from tests.networks.counting import on_meta


@dataclass(frozen=True)
class Case:
    """A network, where its published file has the state dict, the prefix of its keys, and its figures.

    binary   weights of the layers that bidrn makes binary
    unused   parameters that are in the file and never used
    head     the path of the regressor's layers
    """

    name: str
    wrapper: str
    prefix: str
    keys: int
    parameters: int
    macs: int
    binary: int
    binary_macs: int
    unused: int = 0
    head: str = ""
    joints: int = 24


SMALL = [
    Case("spin", "model", "", 331, 26_977_501, 4_097_538_048, 20_676_608, 3_609_460_736),
    Case("cliff-r50", "model", "module.", 331, 26_980_573, 4_014_136_320, 20_676_608, 3_535_798_272),
]
LARGE = [
    Case("cliff-hr48", "model", "module.", 1967, 78_893_405, 16_933_788_672, 74_312_960, 16_247_832_576),
    *(
        Case(
            name,
            "state_dict",
            "model.",
            1902,
            parameters,
            macs,
            *(65_451_008, 15_680_865_536),
            unused=14_004_456,
            head="head.",
            joints=22,
        )
        for name, parameters, macs in (
            ("bedlam-hmr", 81_977_562, 16_280_401_152),
            ("bedlam-cliff", 81_980_634, 16_280_410_368),
        )
    ),
]

each = pytest.mark.parametrize("case", SMALL + LARGE, ids=lambda case: case.name)
each_small = pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
each_large = pytest.mark.parametrize("case", LARGE, ids=lambda case: case.name)


def published(case: Case) -> dict[str, Tensor]:
    """The keys of a published file, every value 0.5."""
    state = on_meta(lambda: get_network(case.name).build("full")).state_dict()
    return {case.prefix + name: torch.full(t.shape, 0.5, dtype=t.dtype) for name, t in state.items()}


def named(case: Case) -> dict[str, Tensor]:
    """The same keys, of tensors with one number; what tells a network by its shape has that."""
    network = get_network(case.name)
    shapes = dict(network.layouts[0].shapes)
    names = on_meta(lambda: network.build("full")).state_dict()
    return {case.prefix + name: torch.zeros(shapes.get(name, (1,))) for name in names}


def written(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "published.pt")
    return folder / "published.pt"


@each_small
def test_a_published_checkpoint_is_recognised(case: Case, tmp_path: Path) -> None:
    state = published(case)
    assert len(state) == case.keys
    extra = {f"{case.prefix}smpl.faces": torch.zeros(3)}
    loaded = load_model(written(tmp_path, {"epoch": 3, "model": state | extra}))
    assert loaded.spec == f"{case.name}:full"
    assert loaded.layout == "public"
    assert loaded.ignored == ("smpl.faces",)
    assert loaded.interface == get_network(case.name).interface("full")
    values = loaded.model.state_dict()
    assert {case.prefix + name for name in values} == state.keys()
    assert all(bool((value == 0.5).all()) for value in values.values() if value.is_floating_point())


@each_small
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


@each_large
def test_large_ones_are_told_apart_and_what_is_wrong_is_named(case: Case, tmp_path: Path) -> None:
    """They share trunks or regressors, and their keys; BEDLAM's two differ in the width of one layer alone."""
    state = named(case)
    assert len(state) == case.keys
    network, layout, read = recognise(tmp_path, {"epoch": 3, case.wrapper: state}, None)
    assert (network.name, layout.preset) == (case.name, "full")
    assert len(read) == case.keys
    body = {f"{case.prefix}smpl.faces": torch.zeros(3)}
    gone = [f"{case.head}deccam.weight", f"{case.head}deccam.bias"]
    for name in gone:
        del state[case.prefix + name]
    says = rf"2 missing: {', '.join(gone)}; 1 unexpected: fc3.weight"
    more = {f"{case.prefix}fc3.weight": torch.zeros(3)}
    with pytest.raises(InputError, match=says):
        load_model(written(tmp_path, {case.wrapper: state | body | more}))


def test_a_regressor_of_another_width_is_neither_of_the_two(tmp_path: Path) -> None:
    state = named(LARGE[-1]) | {"model.head.fc1.weight": torch.zeros(1024, 868)}
    file = written(tmp_path, {"state_dict": state})
    with pytest.raises(InputError, match="fit bedlam-hmr:full and bedlam-cliff:full; say which one"):
        load_model(file)
    with pytest.raises(InputError, match="the network needs"):
        load_model(file, "bedlam-hmr")


@each
def test_the_module_does_what_is_described(case: Case) -> None:
    network = get_network(case.name)
    interface = network.interface("full")
    model: nn.Module = on_meta(lambda: network.build("full"))
    outputs = model(*(torch.empty(port.shape, device="meta") for port in interface.inputs))
    check_outputs(interface, outputs)
    assert tuple(outputs) == tuple(port.name for port in interface.outputs)
    assert len(interface.outputs[0].names) == case.joints


@each
def test_report(case: Case) -> None:
    """Layers of the regressor are called three times: their operations count thrice, their weights once."""
    answer = inside("report", "--network", case.name, "--scheme", "bidrn", "--format", "json")
    assert answer.code == 0, answer.stderr
    report = json.loads(answer.stdout)
    original = report["original"]
    assert original["params"]["total"] == case.parameters
    assert sum(original["params"]["unused"].values()) == case.unused
    assert original["ops"]["macs"] == case.macs
    assert report["compiled"]["params"]["binary"] == case.binary
    assert report["compiled"]["ops"]["binary_macs"] == case.binary_macs
    assert sum(report["weights"]["before"].values()) < case.parameters
    layers = {layer["name"].removeprefix(case.head): layer for layer in report["layers"]}
    assert [layers[name]["weights"] for name in ("fc2", "fc2#1", "fc2#2")] == [1024 * 1024, 0, 0]
    assert [layers[name]["macs"] for name in ("fc2", "fc2#1", "fc2#2")] == [1024 * 1024] * 3
    assert {layer["stage"] for layer in layers.values()} == {"trunk", "regressor"}
    stages = {layer["stage"] for name, layer in layers.items() if name.startswith(("fc", "dec"))}
    assert stages == {"regressor"}


def test_layers_that_are_never_called_are_named() -> None:
    answer = inside("report", "--network", "bedlam-cliff", "--scheme", "bidrn")
    assert answer.code == 0, answer.stderr
    assert "never used" in answer.stdout
    assert "never called: backbone.final_layer, head.downsample_module.0.0" in answer.stdout
