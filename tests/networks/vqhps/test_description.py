"""VQ-HPS as a description: its published layout, the figures of reports, and small ones that compile."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bhpe_compile.check.verify import verify
from bhpe_compile.compiler.compile import compile_model
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.result import CompileResult
from bhpe_compile.errors import InputError
from bhpe_compile.frontends.checkpoint import load_model
from bhpe_compile.networks.registry import get_network
from bhpe_compile.runtime import Model
from tests.command import inside
from tests.networks.counting import on_meta
from tests.networks.small import scattered

R50, HR48 = "vqhps-r50", "vqhps-hr48"

FIGURES = {R50: (58_927_241, 701, 8_634_479_616), HR48: (141_645_817, 3801, 32_973_823_488)}
"""Parameters, keys of a published file, multiply-accumulates."""

PICTURE = Path(__file__).parents[3] / "bhpe_compile" / "data" / "person.png"

each = pytest.mark.parametrize("name", FIGURES)


@cache
def state_of(name: str, preset: str) -> dict[str, Tensor]:
    """A state dict of this network, every value 0.5."""
    state = on_meta(lambda: get_network(name).build(preset)).state_dict()
    return {key: torch.full(one.shape, 0.5, dtype=one.dtype) for key, one in state.items()}


def written(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "published.pt")
    return folder / "published.pt"


@each
@pytest.mark.parametrize("preset", ["full", "tiny"])
def test_the_description_is_what_the_module_does(name: str, preset: str) -> None:
    network = get_network(name)
    interface = network.interface(preset)
    model = on_meta(lambda: network.build(preset))
    outputs = model(*(torch.empty(port.shape, device="meta") for port in interface.inputs))
    assert {one.name: one.shape for one in interface.outputs} == {
        n: tuple(v.shape) for n, v in outputs.items()
    }


@each
def test_report(name: str) -> None:
    parameters, keys, macs = FIGURES[name]
    assert len(on_meta(lambda: get_network(name).build("full")).state_dict()) == keys
    answer = inside("report", "--network", name, "--scheme", "bidrn", "--format", "json")
    assert answer.code == 0, answer.stderr
    report = json.loads(answer.stdout)
    assert report["original"]["params"]["total"] == parameters
    assert report["original"]["ops"]["macs"] == macs
    layers = {layer["name"]: layer for layer in report["layers"]}
    dead = [layers[f"transformer.dec_head.blocks.0.attn.{part}"]["macs"] for part in ("key", "query")]
    dead += [layers[f"transformer.dec_head.blocks.0.attn.matmul{call}"]["macs"] for call in ("", "#1")]
    assert dead == [54 * 512 * 512, 54 * 512 * 512, 54 * 512, 54 * 512]
    stages = {"mesh trunk", "rotation trunk", "transformer", "regressor"}
    assert {layer["stage"] for layer in layers.values()} == stages


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        (R50, "full"),
        pytest.param(HR48, "full", marks=pytest.mark.full),  # 0.6 GB
        (R50, "tiny"),
        (HR48, "tiny"),
    ],
)
def test_a_published_checkpoint_is_recognised(name: str, preset: str, tmp_path: Path) -> None:
    state = {f"module.{key}": value for key, value in state_of(name, preset).items()}
    extra = {"module.rotcam_feat.weight": torch.zeros(3)}
    loaded = load_model(written(tmp_path, {"model": {**state, **extra}, "loss": 1.25}))
    assert (loaded.spec, loaded.layout) == (f"{name}:{preset}", "public")
    assert loaded.ignored == ("rotcam_feat.weight",)
    values = loaded.model.state_dict()
    assert all(bool((value == 0.5).all()) for value in values.values() if value.is_floating_point())
    assert not loaded.model.get_buffer("pose_init").any()


def test_a_prefix_is_no_must_and_the_pose_may_be_added(tmp_path: Path) -> None:
    pose = torch.arange(51.0)[None]
    loaded = load_model(written(tmp_path, {"model": {**state_of(R50, "tiny"), "pose_init": pose}}))
    assert loaded.spec == f"{R50}:tiny"
    assert torch.equal(loaded.model.get_buffer("pose_init"), pose)


@each
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("missing", "1 missing: transformer.encoder.layers.0.self_attn.in_proj_bias"),
        ("unexpected", "1 unexpected: fc3.weight"),
        ("misshapen", r"fc1.bias has shape \(11,\), the network needs \(32,\)"),
        ("pose", r"pose_init has shape \(1, 3\), the network needs \(1, 51\)"),
    ],
)
def test_what_is_wrong_is_named(name: str, damage: str, says: str, tmp_path: Path) -> None:
    state = dict(state_of(name, "tiny"))
    if damage == "missing":
        del state["transformer.encoder.layers.0.self_attn.in_proj_bias"]
    else:
        key = {"unexpected": "fc3.weight", "misshapen": "fc1.bias", "pose": "pose_init"}[damage]
        state[key] = torch.zeros((1, 3) if damage == "pose" else 11)
    with pytest.raises(InputError, match=rf"published\.pt: .*{says}") as caught:
        load_model(written(tmp_path, {"model": state}))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = scattered(get_network(R50).build("tiny"))
    pose = torch.linspace(-0.5, 0.5, 51)[None]
    state = {**model.state_dict(), "pose_init": pose}
    return written(tmp_path_factory.mktemp("vqhps"), {"model": state, "loss": 1.25})


@pytest.fixture(scope="module")
def compiled(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CompileResult]:
    folder = tmp_path_factory.mktemp("compiled") / "vqhps-x86"
    return folder, compile_model(checkpoint, folder, CompileOptions("x86", scheme="bidrn"))


def test_folds_say_so(compiled: tuple[Path, CompileResult]) -> None:
    _, result = compiled
    told = {(note.pass_name, note.site): note.reason for note in result.notes if note.applied}
    assert told["fold-constant-features", "fc1"] == "51 constants are in its bias"
    assert any(
        "key and query go" in reason for (name, _), reason in told.items() if name == "fold-lone-softmax"
    )
    layers = {layer["name"] for layer in result.report["layers"]}
    dead = {f"transformer.dec_head.blocks.0.attn.{part}" for part in ("key", "query", "value")}
    assert not layers & {*dead, "fc1", "fc2"}
    assert {"transformer.dec_head.blocks.0.attn.proj", "rot_predictor", "cam_predictor"} <= layers


def test_it_computes_what_its_model_computes(compiled: tuple[Path, CompileResult]) -> None:
    """Trunks are equal, bit for bit; the attention is named."""
    result = verify(compiled[0])
    assert (result.ok, result.binary_exact, result.int8_exact, result.differing) == (True, True, True, 0)
    assert any(part.startswith("Softmax") for part in result.float_parts)
    assert not any("backbone" in part for part in result.float_parts)
    assert result.tolerances["rotation"] == 1e-5
    assert result.tolerances["logits"] == result.tolerances["codes"] == 5e-3


def test_run_tells_codes_rotation_and_camera(compiled: tuple[Path, CompileResult]) -> None:
    folder, _ = compiled
    answer = inside("run", str(folder), str(PICTURE))
    assert answer.code == 0, answer.stderr
    told = json.loads(answer.stdout)
    person = told["people"][0]
    with Model(folder) as model:
        outputs = model.run(PICTURE)
    assert (
        person["codes"] == outputs["codes"].ravel().tolist() == outputs["logits"].argmax(2).ravel().tolist()
    )
    assert told["units"]["codes"].startswith("entries of a book of 16")
    assert list(person["rotations"]) == ["pelvis"]
    assert len(person["camera"]["values"]) == 3
