"""Students of ONNX files: norms that are settled, a few steps, going on, compiling and verifying, what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import ModelProto
from PIL import Image
from torch import nn

pytest.importorskip("accelerate")

from bhpe_compile.distill import record
from bhpe_compile.distill.by_kind import unexplained
from bhpe_compile.distill.settle import settle_norms, unsettled
from bhpe_compile.frontends.checkpoint import load_model
from bhpe_compile.frontends.trainable import load_trainable
from tests.command import inside
from tests.onnx_graphs import Net, save

DESCRIPTION = """
[inputs.image]
kind = "picture"
crop = {}

[outputs.points]
kind = "keypoints"
shape = [1, 5, 2]
grid = [8.0, 8.0]
"""

FEW = ("--samples", "80", "--batch", "8", "--micro-batch", "8", "--workers", "0", "--precision", "fp32")


def trunk() -> ModelProto:
    """Convolutions that become binary, behind a ReLU and behind clips of 0 and 6, as mobile networks have them."""
    net = Net(3)
    ends = [net.constant(np.array(end, np.float32)) for end in (0, 6)]
    x = net.add("Relu", net.conv("image", 3, 16, strides=[2, 2], pads=[1] * 4, name="stem"))
    for name in ("first", "second"):
        x = net.add("Clip", net.conv(x, 16, 16, pads=[1] * 4, name=name), *ends)
    x = net.add("Clip", net.conv(x, 16, 32, strides=[2, 2], pads=[1] * 4, name="third"), *ends)
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    x = net.add("MatMul", x, net.constant(net.normal(32, 10, std=0.5), "head.weight"), name="head")
    net.add("Add", x, net.constant(4 + net.normal(10)), out="points")
    return net.model({"image": (1, 3, 32, 24)}, ["points"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file, its description, pictures, arrays."""
    place = tmp_path_factory.mktemp("onnx")
    torch.set_num_threads(1)
    save(trunk(), place / "net.onnx")
    (place / "net.toml").write_text(DESCRIPTION)
    (place / "pictures").mkdir()
    drawn = np.random.default_rng(0)
    for index in range(6):
        coarse = drawn.integers(0, 256, (8, 6, 3), np.uint8).repeat(16, 0).repeat(16, 1)
        Image.fromarray(coarse).save(place / "pictures" / f"{index}.png")
    np.savez(place / "shown.npz", image=drawn.random((12, 3, 32, 24), np.float32))
    np.savez(place / "wrong.npz", image=drawn.random((12, 3, 32, 25), np.float32))
    return place


def test_settled_norms_compute_the_same(folder: Path) -> None:
    """They get the statistics of what they read, and what the network computes does not change."""
    model = load_trainable(folder / "net.onnx").model
    pictures = torch.rand(16, 3, 32, 24)
    with torch.no_grad():
        before = model(pictures)["points"]
    assert len(unsettled(model)) == 4

    def show(network: nn.Module) -> None:
        for half in pictures.split(8):
            network(half)

    settle_norms(model, show)
    assert not unsettled(model)
    with torch.no_grad():
        assert torch.allclose(model(pictures)["points"], before, atol=1e-4 * float(before.abs().max()))
    seen: list[torch.Tensor] = []
    norm = model.get_submodule("third_norm")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(pictures)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert torch.allclose(norm.running_mean, seen[0].mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(norm.running_var, seen[0].var((0, 2, 3), correction=0), rtol=1e-3)


def test_an_answer_of_the_mean_explains_nothing() -> None:
    right = torch.randn(64, 5) * 3 + 100
    assert float(unexplained(right, right)) == 0
    assert abs(float(unexplained(right.mean(0).expand(64, 5), right)) - 1) < 1e-4
    same = torch.full((4, 5), 7.0)
    assert float(unexplained(same * 1.01, same)) < 1


def test_distilled_stopped_compiled_and_verified(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From pictures; the student needs no file but its own, and every layer is equal."""
    monkeypatch.setattr(record, "LOG_EVERY", 2)
    words = ("distill", "net.onnx", "--network", "net.toml", "--images", "pictures", *FEW)
    outcome = inside(*words, "-o", "student.pt", "--format", "json", "-q", cwd=folder)
    assert outcome.code == 0, outcome.stderr
    told = json.loads(outcome.stdout)
    assert told["activations"].endswith("the signs of 3 binary layers")
    log = [json.loads(line) for line in (folder / "student.pt.training" / "log.jsonl").open()]
    assert {"points", "features"} <= log[0].keys()
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
    student = load_model(folder / "student.pt")
    assert student.interface.keypoints is not None
    assert student.ranges is not None

    again = inside(*words, "-o", "student.pt", "--format", "json", "-q", cwd=folder)  # goes on from the end
    assert again.code == 0, again.stderr
    other = load_model(folder / "student.pt").state_dict
    assert all(torch.equal(value, other[name]) for name, value in student.state_dict.items())

    outcome = inside("student.pt", "--target", "native", "-o", "built", "-q", cwd=folder)
    assert (outcome.code, outcome.stdout) == (0, ""), outcome.stderr
    outcome = inside("verify", "built", "--model", "student.pt", "--format", "json", cwd=folder)
    assert outcome.code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["ok"]
    outcome = inside("report", "student.pt", "--format", "json", cwd=folder)
    assert json.loads(outcome.stdout)["network"] == "onnx"
    outcome = inside("run", "built", "pictures/0.png", "-q", cwd=folder)
    assert len(json.loads(outcome.stdout)["people"][0]["joints"]) == 5


def test_arrays_are_enough(folder: Path) -> None:
    words = ("distill", "net.onnx", "--images", "shown.npz", *FEW, "-o", "arrays.safetensors")
    outcome = inside(*words, "-q", cwd=folder)
    assert outcome.code == 0, outcome.stderr
    outcome = inside("arrays.safetensors", "--target", "native", "-o", "built-arrays", "-q", cwd=folder)
    assert outcome.code == 0, outcome.stderr
    assert inside("verify", "built-arrays", "--model", "arrays.safetensors", "-q", cwd=folder).code == 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--images", "pictures"), 2, "let `distill` have an .npz of the inputs"),
        (("--images", "wrong.npz"), 3, "image must be float32 [examples, 3, 32, 24]"),
        (("--images", "gone.npz"), 2, "gone.npz: cannot be read"),
        (("--images", "shown.npz", "--consistency", "1"), 2, "--consistency: shown.npz holds arrays"),
        (("--images", "shown.npz", "--keep-float", "*"), 3, "no layer of it becomes binary"),
        (("--images", "shown.npz", "--shape", "picture=1,3,4,4"), 2, "has no such input"),
    ],
)
def test_what_cannot_be_distilled_is_said(words: tuple[str, ...], code: int, says: str, folder: Path) -> None:
    outcome = inside("distill", "net.onnx", *words, *FEW, "-o", "none.pt", cwd=folder)
    assert outcome.code == code, outcome.stderr
    assert says in outcome.stderr.splitlines()[-1]
    assert not (folder / "none.pt").exists()


def test_a_graph_without_a_gradient_is_refused(folder: Path) -> None:
    net = Net()
    net.add("CumSum", "image", net.constant(np.array(1, np.int64)), name="sum", out="y")
    save(net.model({"image": (1, 3, 8, 8)}, ["y"]), folder / "sums.onnx")
    outcome = inside("distill", "sums.onnx", "--images", "pictures", "-o", "none.pt", cwd=folder)
    assert outcome.code == 3
    assert "node CumSum (sum) has no form here that has a gradient" in outcome.stderr
