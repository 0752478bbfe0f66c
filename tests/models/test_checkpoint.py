"""Checkpoints: round trips, the public layout, and every kind of damage as one clear line."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.models.checkpoint import load_model, load_state, save_model
from bhpe_compile.models.hand4whole import Hand4Whole
from bhpe_compile.models.initialise import initialise
from bhpe_compile.models.presets import FULL, TINY


@pytest.fixture(scope="module")
def tiny() -> Hand4Whole:
    return initialise(Hand4Whole(TINY), 3)


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors"])
def test_round_trip(tmp_path: Path, tiny: Hand4Whole, name: str) -> None:
    save_model(tmp_path / name, tiny, TINY)
    loaded = load_model(tmp_path / name)
    assert loaded.preset == TINY
    assert loaded.binarization is None
    want = tiny.state_dict()
    assert all(torch.equal(value, want[key]) for key, value in loaded.model.state_dict().items())
    assert [p.name for p in tmp_path.iterdir()] == [name]  # no temporary file left


def test_same_model_same_bytes(tmp_path: Path, tiny: Hand4Whole) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save_model(tmp_path / folder / f"{folder}.pt", tiny, TINY)
    assert (tmp_path / "a" / "a.pt").read_bytes() == (tmp_path / "b" / "b.pt").read_bytes()


def test_public_layout(tmp_path: Path) -> None:
    with torch.device("meta"):
        names = Hand4Whole(FULL).state_dict()
    state = {f"module.{k}": torch.full(v.shape, 0.5, dtype=v.dtype) for k, v in names.items()}
    state["module.smplx_layer.shapedirs"] = torch.zeros(3)
    path = tmp_path / "snapshot_6.pth.tar"
    torch.save({"epoch": 6, "network": state, "optimizer": {"state": {}, "param_groups": []}}, path)
    loaded = load_model(path)
    assert loaded.layout == "public"
    assert loaded.preset == FULL
    assert loaded.ignored == ("smplx_layer.shapedirs",)
    assert float(loaded.model.state_dict()["backbone.conv1.weight"].mean()) == 0.5


def _network(tiny: Hand4Whole) -> dict[str, Any]:
    state = {f"module.{k}": v for k, v in tiny.state_dict().items()}
    return {"epoch": 1, "network": state, "optimizer": {}}


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_model(tmp_path / "none.pt")


@pytest.mark.parametrize("content", [b"", b"just a text file\n", b"\x00\x01\x02" * 100, b"\x80\x02garbage"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_foreign_files(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.(pt|safetensors): "):
        load_model(path)


def test_truncated(tmp_path: Path, tiny: Hand4Whole) -> None:
    path = tmp_path / "m.pt"
    save_model(path, tiny, TINY)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="truncated, damaged or not"):
        load_model(path)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_is_refused_and_not_run(tmp_path: Path, writer: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.pt"
    if writer == "torch":
        torch.save({"network": Evil()}, path)
    else:
        path.write_bytes(pickle.dumps({"network": Evil()}, protocol=2))
    with pytest.raises(InputError, match=r"holds code.*state dict"):
        load_model(path)
    assert "executed" not in capsys.readouterr().out


def test_another_architecture_names_keys(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(torch.nn.Linear(3, 4).state_dict(), path)
    with pytest.raises(
        InputError, match=r"missing: backbone\.conv1\.weight.*and \d+ more; 2 unexpected: weight, bias"
    ):
        load_model(path)


def test_tiny_weights_in_the_public_layout_name_the_shape(tmp_path: Path, tiny: Hand4Whole) -> None:
    state = tiny.state_dict()
    state["backbone.conv1.weight"] = torch.zeros(8, 3, 7, 7)
    with pytest.raises(
        InputError, match=r"backbone\.conv1\.weight has shape \(8, 3, 7, 7\).*\(16, 3, 7, 7\)"
    ):
        load_state(Hand4Whole(TINY), state, "x.pt")


def test_nan_is_named(tiny: Hand4Whole) -> None:
    state = {k: v.clone() for k, v in tiny.state_dict().items()}
    state["face_regressor.expr_out.0.weight"][0, 0] = float("nan")
    with pytest.raises(InputError, match=r"NaN or infinity in face_regressor\.expr_out\.0\.weight"):
        load_state(Hand4Whole(TINY), state, "x.pt")
