"""The pass for BoxNet: transposed convolutions and linear layers, without local residuals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from bhpe_compile.passes.binarize import BNN, BinarizeOptions, trace
from bhpe_compile.passes.binarize.branch import Branch
from tests.passes.binarize.nets import ROLES, lines, picture, randomise


class Boxes(nn.Module):
    """One transposed convolution and one pair of linear layers, under BoxNet's names."""

    roles = ROLES

    def __init__(self, channels: int = 6, kernel: int = 4, stride: int = 2, padding: int = 1) -> None:
        super().__init__()
        deconv = nn.ConvTranspose2d(channels, 8, kernel, stride, padding, bias=False)
        self.box_net = nn.ModuleDict(
            {
                "deconv": nn.Sequential(deconv, nn.BatchNorm2d(8), nn.ReLU()),
                "bbox_center": nn.Sequential(nn.Conv2d(8, 3, 1)),
                "face_size": nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)),
            }
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.box_net["deconv"](x)
        return self.box_net["bbox_center"](x), self.box_net["face_size"](x.mean((2, 3)))


BEFORE = [
    "box_net.deconv.0(x)",
    "box_net.deconv.1(box_net_deconv_0)",
    "box_net.deconv.2(box_net_deconv_1)",
    "box_net.bbox_center.0(box_net_deconv_2)",
    "mean(box_net_deconv_2)",
    "box_net.face_size.0(mean)",
    "box_net.face_size.1(box_net_face_size_0)",
    "box_net.face_size.2(box_net_face_size_1)",
]
AFTER = [
    "box_net.deconv.0_clip(x)",
    "box_net.deconv.0(box_net_deconv_0_clip)",
    "box_net.deconv.1(box_net_deconv_0)",
    "box_net.deconv.0_activation(box_net_deconv_1)",
    "box_net.bbox_center.0(box_net_deconv_0_activation)",
    "mean(box_net_deconv_0_activation)",
    "box_net.face_size.0_clip(mean)",
    "box_net.face_size.0(box_net_face_size_0_clip)",
    "box_net.face_size.0_activation(box_net_face_size_0)",
    "box_net.face_size.2_clip(box_net_face_size_0_activation)",
    "box_net.face_size.2(box_net_face_size_2_clip)",
]


def test_before_and_after() -> None:
    graph = trace(Boxes())
    assert lines(graph) == BEFORE
    result = Branch()(graph)
    assert result.modified
    assert lines(graph) == AFTER
    assert [note.site for note in result.notes if note.applied] == [
        "box_net.deconv.0",
        "box_net.face_size.0",
        "box_net.face_size.2",
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (BinarizeOptions(scheme=BNN), "scheme bnn does not make branches"),
        (BinarizeOptions(keep_float=("box_net.*",)), "--keep-float 'box_net.*'"),
    ],
)
def test_refuses_with_a_reason(options: BinarizeOptions, reason: str) -> None:
    graph = trace(Boxes())
    result = Branch(options)(graph)
    assert not result.modified
    assert lines(graph) == BEFORE
    assert [reason in note.reason for note in result.notes] == [True] * 3


def test_refuses_an_output_padding() -> None:
    model = Boxes()
    deconv = model.box_net["deconv"]
    assert isinstance(deconv, nn.Sequential)
    deconv[0] = nn.ConvTranspose2d(6, 8, 3, 2, 1, output_padding=1)
    note = Branch()(trace(model)).notes[0]
    assert not note.applied
    assert "output_padding" in note.reason


def test_a_scheme_that_leaves_boxes_is_overruled_by_name() -> None:
    graph = trace(Boxes())
    result = Branch(BinarizeOptions(scheme=BNN, binarize=("box_net.deconv.0",)))(graph)
    assert [note.applied for note in result.notes] == [True, False, False]
    assert isinstance(graph.get_submodule("box_net.deconv.0_activation"), nn.Hardtanh)


def sign(x: Tensor) -> Tensor:
    return 1.0 - 2.0 * (x < 0).float()


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.25 * x)


def test_equals_a_composition_of_plain_torch() -> None:
    model = randomise(Boxes()).eval()
    weights = dict(model.state_dict())
    norm = model.get_submodule("box_net.deconv.1")
    centre = model.get_submodule("box_net.bbox_center.0")
    x = picture(16, channels=6)
    deconv = weights["box_net.deconv.0.weight"]
    y = functional.conv_transpose2d(sign(x), sign(deconv), None, 2, 1)
    y = leaky(norm(y * deconv.abs().mean((0, 2, 3))[:, None, None]))
    size = y.mean((2, 3))
    for layer in "02":
        weight, bias = (weights[f"box_net.face_size.{layer}.{what}"] for what in ("weight", "bias"))
        size = functional.linear(sign(size), sign(weight)) * weight.abs().mean(1) + bias
        size = leaky(size) if layer == "0" else size
    graph = trace(model)
    Branch()(graph)
    got_centre, got_size = graph(x)
    assert torch.equal(got_centre, centre(y))
    assert torch.equal(got_size, size)


@given(
    channels=st.integers(1, 9),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 1),
    gamma=st.sampled_from([-1.0, 1.0]),
)
@settings(max_examples=20)
def test_idempotent(channels: int, kernel: int, stride: int, padding: int, gamma: float) -> None:
    model = Boxes(channels, kernel, stride, padding)
    norm = model.get_submodule("box_net.deconv.1")
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.constant_(norm.weight, gamma)
    graph = trace(model)
    Branch()(graph)
    once = lines(graph)
    result = Branch()(graph)
    assert not result.modified
    assert result.notes == ()
    assert lines(graph) == once
