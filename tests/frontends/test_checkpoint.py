"""Checkpoints of our own: round trips, the compact form, versions, damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.frontends.checkpoint import load_model, save_model
from bhpe_compile.frontends.state import load_state
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY
from bhpe_compile.networks.layers.binary import BinaryLayer
from bhpe_compile.passes.binarize import BinarizeOptions, binarize


@pytest.fixture(scope="module")
def tiny() -> Hand4Whole:
    return initialise(Hand4Whole(TINY), 3)


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors"])
def test_round_trip(tmp_path: Path, tiny: Hand4Whole, name: str) -> None:
    save_model(tmp_path / name, tiny, "hand4whole:tiny")
    loaded = load_model(tmp_path / name)
    assert loaded.spec == "hand4whole:tiny"
    assert loaded.binarization is None
    want = tiny.state_dict()
    assert all(torch.equal(value, want[key]) for key, value in loaded.model.state_dict().items())
    assert [p.name for p in tmp_path.iterdir()] == [name]  # no temporary file left


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_same_model_same_bytes(tmp_path: Path, tiny: Hand4Whole, suffix: str) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    save_model(first, tiny, "hand4whole:tiny")
    save_model(second, tiny, "hand4whole:tiny")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors"])
def test_binarization_comes_back_with_its_state(tmp_path: Path, tiny: Hand4Whole, name: str) -> None:
    """The graph is rebuilt by the passes: here only the options and the tensors are handed on, unchecked."""
    options = {"scheme": {"name": "bidrn"}, "keep_float": ["box_net.*"], "binarize": []}
    layer = torch.nn.Linear(3, 4)
    save_model(tmp_path / name, layer, "hand4whole:tiny", options)
    loaded = load_model(tmp_path / name)
    assert loaded.binarization == options
    assert loaded.spec == "hand4whole:tiny"
    assert {k: v.shape for k, v in loaded.state_dict.items()} == {"weight": (4, 3), "bias": (4,)}
    load_state(layer, loaded.state_dict, loaded.source)


def test_nothing_is_left_when_writing_fails(tmp_path: Path, tiny: Hand4Whole) -> None:
    (tmp_path / "taken.pt").mkdir()
    with pytest.raises(UsageError, match=r"taken\.pt: cannot be written"):
        save_model(tmp_path / "taken.pt", tiny, "hand4whole:tiny")
    assert [p.name for p in tmp_path.iterdir()] == ["taken.pt"]
    with pytest.raises(UsageError, match="cannot be written: No such file"):
        save_model(tmp_path / "nowhere" / "m.pt", tiny, "hand4whole:tiny")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_model(tmp_path / "none.pt")
    with pytest.raises(UsageError, match="is a folder"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "holds a list"),
        ({}, "no model in it"),
        ({"epoch": 3, "network": {"module.a": 1}}, r"no model in it \(keys: epoch, network: module\.a\)"),
        ({"network": {"module.a": torch.zeros(2).to_sparse()}}, "no model in it"),
        (
            {"format": "other", "version": 1},
            "format 'other' version 1; this program reads 'bhpe-compile' version 2",
        ),
        ({"format": "bhpe-compile", "version": 3}, "format 'bhpe-compile' version 3"),
        (
            {"format": "bhpe-compile", "version": 2, "network": "elsewhere"},
            "holds a network of another package",
        ),
        ({"format": "bhpe-compile", "version": 1, "preset": ["tiny"]}, r"preset \['tiny'\] is not known"),
        ({"format": "bhpe-compile", "version": 1, "preset": "tiny"}, "state_dict or binarization is missing"),
    ],
)
def test_other_contents(tmp_path: Path, content: object, says: str) -> None:
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(InputError, match=rf"m\.pt: .*{says}") as caught:
        load_model(tmp_path / "m.pt")
    assert "\n" not in str(caught.value)


def test_a_file_of_ours_is_no_other_network(tmp_path: Path, tiny: Hand4Whole) -> None:
    save_model(tmp_path / "m.pt", tiny, "hand4whole:tiny")
    assert load_model(tmp_path / "m.pt", "hand4whole").spec == "hand4whole:tiny"
    with pytest.raises(UsageError, match=r"says that it holds hand4whole:tiny; leave out --network"):
        load_model(tmp_path / "m.pt", "hand4whole:full")


def test_files_of_the_first_version_hold_hand4whole(tmp_path: Path, tiny: Hand4Whole) -> None:
    save_model(tmp_path / "m.pt", tiny, "hand4whole:tiny")
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    torch.save({**content, "version": 1} | {"network": None}, tmp_path / "old.pt")
    assert load_model(tmp_path / "old.pt").spec == "hand4whole:tiny"


def test_compact_form_keeps_signs_and_magnitudes(tmp_path: Path) -> None:
    """Twice through the file is once: the second copy is the first, and both suffixes say the same."""
    options = BinarizeOptions()
    graph, _ = binarize(initialise(Hand4Whole(TINY), 3), options)
    for name in ("a.pt", "a.safetensors"):
        save_model(tmp_path / name, graph, "hand4whole:tiny", options.to_dict(), compact=True)
    first, second = load_model(tmp_path / "a.pt"), load_model(tmp_path / "a.safetensors")
    assert first.state_dict.keys() == graph.state_dict().keys()
    assert all(torch.equal(value, second.state_dict[name]) for name, value in first.state_dict.items())
    again, _ = binarize(Hand4Whole(TINY), options)
    load_state(again, first.state_dict, "a.pt")
    for name, layer in graph.named_modules():
        if isinstance(layer, BinaryLayer):
            assert torch.equal(again.get_submodule(name).weight >= 0, layer.weight >= 0)
    assert (tmp_path / "a.pt").stat().st_size < 0.3 * 4 * sum(p.numel() for p in graph.parameters())


@pytest.mark.parametrize("damage", ["bits", "magnitude", "shape"])
def test_damaged_compact_form_is_refused(damage: str, tmp_path: Path) -> None:
    options = BinarizeOptions()
    graph, _ = binarize(initialise(Hand4Whole(TINY), 3), options)
    path = tmp_path / "a.pt"
    save_model(path, graph, "hand4whole:tiny", options.to_dict(), compact=True)
    content = torch.load(path, weights_only=True)
    name = "backbone.layer2.0.conv2.weight"
    if damage == "bits":
        content["state_dict"][f"{name}.bits"] = content["state_dict"][f"{name}.bits"][:-1]
    elif damage == "magnitude":
        del content["state_dict"][f"{name}.magnitude"]
    else:
        content["signs"][name] = ["many"]
    torch.save(content, path)
    with pytest.raises(InputError, match="damaged: the packed weights"):
        load_model(path)


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors"])
def test_ranges_come_back(tmp_path: Path, tiny: Hand4Whole, name: str) -> None:
    ranges = {"backbone.conv1": (0.0, 1.0), "other": (-0.1, 0.3)}
    save_model(tmp_path / name, tiny, "hand4whole:tiny", ranges=ranges)
    assert load_model(tmp_path / name).ranges == ranges


@pytest.mark.parametrize(
    "ranges",
    [{"a": [1.0, 2.0]}, {"a": [0.0, float("nan")]}, {"a": [0.0]}, {"a": "ab"}, {"a": 3}, ["a"], 7],
)
def test_damaged_ranges_are_named(tmp_path: Path, tiny: Hand4Whole, ranges: Any) -> None:
    save_model(tmp_path / "m.pt", tiny, "hand4whole:tiny")
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    torch.save(content | {"ranges": ranges}, tmp_path / "m.pt")
    with pytest.raises(InputError, match="damaged: ranges of 8-bit layers"):
        load_model(tmp_path / "m.pt")
