"""Files of tensors: every kind of damage as one clear line, and nothing executed."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.frontends.checkpoint import load_model, save_model
from bhpe_compile.frontends.torch_files import read_torch
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY


@pytest.fixture(scope="module")
def tiny() -> Hand4Whole:
    return initialise(Hand4Whole(TINY), 3)


@pytest.mark.parametrize("content", [b"", b"just a text file\n", b"\x00\x01\x02" * 100, b"\x80\x02garbage"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_foreign_files(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.(pt|safetensors): "):
        load_model(path)


def test_truncated(tmp_path: Path, tiny: Hand4Whole) -> None:
    path = tmp_path / "m.pt"
    save_model(path, tiny, "hand4whole:tiny")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="truncated, damaged or not"):
        load_model(path)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


@pytest.mark.parametrize("writer", ["torch", "pickle 2", "pickle 4"])
def test_code_is_refused_and_not_run(tmp_path: Path, writer: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.pt"
    if writer == "torch":
        torch.save({"network": Evil()}, path)
    else:
        path.write_bytes(pickle.dumps({"network": Evil()}, protocol=int(writer[-1])))
    with pytest.raises(
        InputError, match=r"holds (code \(\S*print\)|more than weights), which is not run.*state dict"
    ):
        load_model(path)
    assert "executed" not in capsys.readouterr().out


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(torch.nn.Linear(3, 4), path)
    with pytest.raises(InputError, match=r"holds code \(torch\.nn\.modules\.linear\.Linear\)"):
        load_model(path)


def test_every_bit_of_a_tensor_counts(tmp_path: Path, tiny: Hand4Whole) -> None:
    """torch.load compares no checksums: flipped bits were other weights."""
    path = tmp_path / "m.pt"
    save_model(path, tiny, "hand4whole:tiny")
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: -entry.file_size)[:24]
    for entry in entries:
        damaged = bytearray(content)
        damaged[entry.header_offset + entry.file_size // 2 + 100] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"damaged: .*CRC"):
            load_model(path)


def of_ours(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What a file of the first version holds."""
    return {
        "format": "bhpe-compile",
        "version": 1,
        "preset": "tiny",
        "binarization": None,
        "state_dict": state,
    }


def of_kind(kind: str) -> torch.Tensor:
    ones = torch.ones(2, 2)
    return {
        "complex": ones.to(torch.complex64),
        "float8": ones.to(torch.float8_e4m3fn),
        "meta": ones.to("meta"),
        "sparse": ones.to_sparse(),
        "double": ones.double() * 1e300,
    }[kind]


@pytest.mark.parametrize("kind", ["complex", "float8", "meta", "sparse", "double"])
@pytest.mark.parametrize("layout", ["public", "own"])
def test_numbers_of_another_kind(layout: str, kind: str, tmp_path: Path, tiny: Hand4Whole) -> None:
    """One clear line; 1e300 is finite until it becomes float32."""
    state: dict[str, torch.Tensor] = dict(tiny.state_dict())
    name = "backbone.conv1.weight"
    wrong = of_kind(kind)
    state[name] = torch.full(state[name].shape, 1e300, dtype=torch.float64) if kind == "double" else wrong
    content: dict[str, Any] = {"network": {f"module.{key}": value for key, value in state.items()}}
    if layout == "own":
        content = of_ours(state)
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(InputError) as caught:
        load_model(tmp_path / "m.pt")
    assert "\n" not in str(caught.value)
    if layout == "own" and kind in ("complex", "float8", "double"):
        assert name in str(caught.value)


def test_the_old_format_of_torch_is_read(tmp_path: Path, tiny: Hand4Whole) -> None:
    path = tmp_path / "m.pt"
    state = dict(tiny.state_dict())
    content = of_ours(state)
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert torch.equal(
        load_model(path).model.state_dict()["backbone.conv1.weight"], state["backbone.conv1.weight"]
    )
    for size in (5000, 100_000):
        (tmp_path / "cut.pt").write_bytes(path.read_bytes()[:size])
        with pytest.raises(InputError, match="damaged"):
            load_model(tmp_path / "cut.pt")


@pytest.mark.parametrize("size", [1, 4, 100, 5000, 100_000])
def test_a_cut_file_is_damaged_and_not_unreadable(size: int, tmp_path: Path, tiny: Hand4Whole) -> None:
    for name in ("m.pt", "m.safetensors"):
        path = tmp_path / name
        save_model(path, tiny, "hand4whole:tiny")
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(InputError, match="damaged"):
            load_model(path)


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors"])
def test_a_fifo_is_refused_and_not_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(UsageError, match="is a FIFO, not a regular file"):
        load_model(tmp_path / name)


def test_facts_nested_too_deeply(tmp_path: Path) -> None:
    facts = "[" * 100_000 + "]" * 100_000
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "m.safetensors", {"facts": facts})
    with pytest.raises(InputError, match="damaged"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize("kind", ["strides of 0", "shared", "compact"])
def test_tensors_larger_than_their_file_are_refused_before_anything_is_allocated(
    kind: str, tmp_path: Path
) -> None:
    """10^13 numbers: whoever allocated them would fail with another error."""
    numbers = torch.zeros(20_000, dtype=torch.float16)
    if kind == "shared":
        state = {f"w{i}": numbers[: 19_999 - i] for i in range(900)}
    else:
        state = {"w.bits" if kind == "compact" else "w": numbers[:1].expand(10**13)}
    torch.save(
        {"format": "bhpe-compile", "version": 1, "preset": "tiny", "state_dict": state}, tmp_path / "m.pt"
    )
    with pytest.raises(InputError, match=r"needs \d+ bytes, which the file does not have"):
        load_model(tmp_path / "m.pt")


def test_tied_tensors_are_read(tmp_path: Path) -> None:
    numbers = torch.zeros(50, 20)
    torch.save({"a": numbers, "b": numbers.T, "c": numbers[3], "d": [numbers]}, tmp_path / "m.pt")
    assert set(read_torch(tmp_path / "m.pt")) == {"a", "b", "c", "d"}
