"""Checkpoints: round trips, the public layout, and every kind of damage as one clear line."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.frontends import checkpoint
from bhpe_compile.frontends.checkpoint import load_model, load_state, read_torch, save_model
from bhpe_compile.networks.hand4whole.description import NETWORK
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import FULL, TINY
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
    monkeypatch.setattr(checkpoint, "networks", lambda: (NETWORK, twin))
    path = public_state(tmp_path)
    with pytest.raises(
        InputError, match="its keys fit hand4whole:full and twin:full; say which one with --network"
    ):
        load_model(path)
    assert load_model(path, "hand4whole").spec == "hand4whole:full"


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


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(torch.nn.Linear(3, 4), path)
    with pytest.raises(InputError, match=r"holds code \(torch\.nn\.modules\.linear\.Linear\)"):
        load_model(path)


def test_batch_counters_may_be_missing(tiny: Hand4Whole) -> None:
    state = {k: v for k, v in tiny.state_dict().items() if not k.endswith("num_batches_tracked")}
    load_state(Hand4Whole(TINY), state, "x.pt")


def test_tiny_weights_in_the_public_layout_name_the_shape(tmp_path: Path, tiny: Hand4Whole) -> None:
    state = tiny.state_dict()
    state["backbone.conv1.weight"] = torch.zeros(8, 3, 7, 7)
    with pytest.raises(
        InputError, match=r"backbone\.conv1\.weight has shape \(8, 3, 7, 7\).*\(20, 3, 7, 7\)"
    ):
        load_state(Hand4Whole(TINY), state, "x.pt")


def test_nan_is_named(tiny: Hand4Whole) -> None:
    state = {k: v.clone() for k, v in tiny.state_dict().items()}
    state["face_regressor.expr_out.0.weight"][0, 0] = float("nan")
    with pytest.raises(InputError, match=r"NaN or infinity in face_regressor\.expr_out\.0\.weight"):
        load_state(Hand4Whole(TINY), state, "x.pt")


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
        content = {
            "format": "bhpe-compile",
            "version": 1,
            "preset": "tiny",
            "binarization": None,
            "state_dict": state,
        }
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(InputError) as caught:
        load_model(tmp_path / "m.pt")
    assert "\n" not in str(caught.value)
    if layout == "own" and kind in ("complex", "float8", "double"):
        assert name in str(caught.value)


def test_the_old_format_of_torch_is_read(tmp_path: Path, tiny: Hand4Whole) -> None:
    path = tmp_path / "m.pt"
    state = dict(tiny.state_dict())
    content = {
        "format": "bhpe-compile",
        "version": 1,
        "preset": "tiny",
        "binarization": None,
        "state_dict": state,
    }
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


def test_a_negative_variance_is_named(tiny: Hand4Whole) -> None:
    state = {name: value.clone() for name, value in tiny.state_dict().items()}
    name = next(n for n in state if n.endswith("running_var"))
    state[name][0] = -1e-3
    with pytest.raises(InputError, match=f"a variance below 0 in {re.escape(name)}"):
        load_state(tiny, state, "x.pt")


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
