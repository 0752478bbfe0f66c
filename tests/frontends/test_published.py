"""Published checkpoints: recognised by their keys, never guessed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bhpe_compile.errors import InputError
from bhpe_compile.frontends import published
from bhpe_compile.frontends.checkpoint import load_model
from bhpe_compile.networks.hand4whole.description import NETWORK
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import FULL


def test_public_layout(tmp_path: Path) -> None:
    with torch.device("meta"):
        names = Hand4Whole(FULL).state_dict()
    state = {f"module.{k}": torch.full(v.shape, 0.5, dtype=v.dtype) for k, v in names.items()}
    state["module.smplx_layer.shapedirs"] = torch.zeros(3)
    path = tmp_path / "snapshot_6.pth.tar"
    torch.save({"epoch": 6, "network": state, "optimizer": {"state": {}, "param_groups": []}}, path)
    loaded = load_model(path)
    assert loaded.layout == "public"
    assert loaded.spec == "hand4whole:full"
    assert loaded.ignored == ("smplx_layer.shapedirs",)
    assert float(loaded.model.state_dict()["backbone.conv1.weight"].mean()) == 0.5


def public_state(tmp_path: Path, drop: str = "") -> Path:
    """A file in the published layout, full size, every value 0.5; without the keys that begin with `drop`."""
    with torch.device("meta"):
        names = Hand4Whole(FULL).state_dict()
    state = {
        f"module.{k}": torch.full(v.shape, 0.5, dtype=v.dtype)
        for k, v in names.items()
        if not drop or not k.startswith(drop)
    }
    torch.save({"epoch": 6, "network": state}, tmp_path / "snapshot.pth.tar")
    return tmp_path / "snapshot.pth.tar"


def test_another_architecture_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(torch.nn.Linear(3, 4).state_dict(), path)
    with pytest.raises(
        InputError, match=r"no model in it \(keys: weight, bias\); expected a published .* hand4whole"
    ):
        load_model(path)
    with pytest.raises(
        InputError, match=r"missing: backbone\.conv1\.weight.*and \d+ more; 2 unexpected: weight, bias"
    ):
        load_model(path, "hand4whole")


def test_what_is_missing_of_a_recognised_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing: face_roi_net\.backbone\.layer4"):
        load_model(public_state(tmp_path, drop="face_roi_net.backbone.layer4"))


def test_two_networks_that_fit_are_both_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is guessed: the user says which one it is."""
    twin = replace(NETWORK, name="twin")
    monkeypatch.setattr(published, "networks", lambda: (NETWORK, twin))
    path = public_state(tmp_path)
    with pytest.raises(
        InputError, match="its keys fit hand4whole:full and twin:full; say which one with --network"
    ):
        load_model(path)
    assert load_model(path, "hand4whole").spec == "hand4whole:full"
