"""The five passes for core convolutions: one set of tests, run for each kind."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from bhpe_compile.networks.layers.binary import RPReLU
from bhpe_compile.passes.binarize import BIDRN, BNN, REACTNET, BinarizeOptions, Scheme, trace
from bhpe_compile.passes.binarize.core import CoreConvPass
from bhpe_compile.passes.binarize.down_sample import DownSample
from bhpe_compile.passes.binarize.down_scale import DownScale
from bhpe_compile.passes.binarize.fusion_down import FusionDown
from bhpe_compile.passes.binarize.fusion_up import FusionUp
from bhpe_compile.passes.binarize.plain import Plain
from tests.passes.binarize.nets import OneConv, lines, picture, randomise


@dataclass(frozen=True)
class Kind:
    rewrite: type[CoreConvPass]
    cin: int
    cout: int
    stride: int


KINDS = (
    Kind(Plain, 8, 8, 1),
    Kind(DownScale, 8, 8, 2),
    Kind(DownSample, 8, 16, 2),
    Kind(FusionUp, 4, 16, 1),
    Kind(FusionDown, 16, 4, 1),
)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.rewrite.name)

BEFORE = ["layer1.0.conv1(x)", "layer1.0.bn1(layer1_0_conv1)", "layer1.0.relu(layer1_0_bn1)"]
AFTER = [
    "layer1.0.conv1_clip(x)",
    "layer1.0.conv1(layer1_0_conv1_clip)",
    "layer1.0.bn1(layer1_0_conv1)",
    "layer1.0.conv1_residual(layer1_0_conv1_clip)",
    "add(layer1_0_bn1, layer1_0_conv1_residual)",
    "layer1.0.conv1_activation(add)",
]


def net(kind: Kind, kernel: int = 3) -> OneConv:
    model = OneConv(kind.cin, kind.cout, kernel, kind.stride)
    randomise(model)
    return model.eval()


@each_kind
def test_before_and_after(kind: Kind) -> None:
    graph = trace(net(kind))
    assert lines(graph) == BEFORE
    result = kind.rewrite()(graph)
    assert result.modified
    assert lines(graph) == AFTER
    assert [(note.site, note.applied) for note in result.notes] == [("layer1.0.conv1", True)]


@each_kind
def test_residual_taps_before_the_clip_where_asked(kind: Kind) -> None:
    graph = trace(net(kind))
    kind.rewrite(BinarizeOptions(residual_tap="before"))(graph)
    assert lines(graph) == [line.replace("residual(layer1_0_conv1_clip)", "residual(x)") for line in AFTER]


@each_kind
@pytest.mark.parametrize("scheme", [BNN, REACTNET], ids=lambda scheme: scheme.name)
def test_schemes_without_residual(kind: Kind, scheme: Scheme) -> None:
    graph = trace(net(kind))
    kind.rewrite(BinarizeOptions(scheme=scheme))(graph)
    activation = graph.get_submodule("layer1.0.conv1_activation")
    assert isinstance(activation, nn.Hardtanh if scheme is BNN else RPReLU)
    assert isinstance(graph.get_submodule("layer1.0.conv1").threshold, nn.Parameter) == (scheme is REACTNET)
    assert lines(graph) == [*AFTER[:3], "layer1.0.conv1_activation(layer1_0_bn1)"]


@each_kind
def test_leaves_other_kinds_to_their_passes(kind: Kind) -> None:
    """A pass says nothing about layers it does not own; together they own each exactly once."""
    for other in KINDS:
        graph = trace(net(other))
        result = kind.rewrite()(graph)
        assert result.modified == (other is kind)
        assert len(result.notes) == (other is kind)


@each_kind
@pytest.mark.parametrize(
    ("kernel", "padding", "keep", "reason"),
    [
        (3, 1, ("layer1.0.*",), "--keep-float 'layer1.0.*'"),
        (3, 0, (), "changes the size of the map"),
        (2, 1, (), "changes the size of the map"),
    ],
)
def test_refuses_with_a_reason(
    kind: Kind, kernel: int, padding: int, keep: tuple[str, ...], reason: str
) -> None:
    graph = trace(OneConv(kind.cin, kind.cout, kernel, kind.stride, padding))
    result = kind.rewrite(BinarizeOptions(keep_float=keep))(graph)
    assert not result.modified
    assert lines(graph) == BEFORE
    (note,) = result.notes
    assert not note.applied
    assert reason in note.reason


def test_refuses_a_conv_without_batch_normalisation() -> None:
    model = OneConv(8, 8)
    model.set_submodule("layer1.0.bn1", nn.Identity())
    (note,) = Plain()(trace(model)).notes
    assert not note.applied
    assert "no batch normalisation" in note.reason


def test_refuses_groups_and_shared_layers() -> None:
    (note,) = Plain()(trace(OneConv(8, 8, groups=2))).notes
    assert "groups=2" in note.reason

    class Twice(OneConv):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(super().forward(x))

    (note,) = Plain()(trace(Twice(8, 8))).notes
    assert not note.applied
    assert "called 2 times" in note.reason


def expected_output(model: OneConv, kind: Kind, x: Tensor, tap: str) -> Tensor:
    """The binary block written out in plain torch, from the tensors of the float one."""
    conv, norm = model.block[0].conv1, model.block[0].bn1
    clipped = x.clamp(-1, 1)
    bits = 1.0 - 2.0 * (x < 0).float()
    signs = 1.0 - 2.0 * (conv.weight < 0).float()
    dot = functional.conv2d(bits, signs, None, kind.stride, conv.kernel_size[0] // 2)
    y: Tensor = norm(dot * conv.weight.abs().mean((1, 2, 3))[:, None, None])
    short = clipped if tap == "after" else x
    if kind.stride == 2:
        short = functional.avg_pool2d(short, 2)
    if kind.cout > kind.cin:
        short = short.repeat(1, kind.cout // kind.cin, 1, 1)
    if kind.cout < kind.cin:
        short = torch.stack(torch.split(short, kind.cout, 1)).mean(0)
    y = y + short
    return torch.where(y > 0, y, 0.25 * y)


@each_kind
@pytest.mark.parametrize("tap", ["after", "before"])
@pytest.mark.parametrize("kernel", [1, 3])
def test_equals_a_composition_of_plain_torch(kind: Kind, tap: str, kernel: int) -> None:
    model = net(kind, kernel)
    graph = trace(model)
    x = picture(12, channels=kind.cin)
    expected = expected_output(model, kind, x, tap)
    kind.rewrite(BinarizeOptions(residual_tap=tap))(graph)  # type: ignore[arg-type]
    assert torch.equal(graph(x), expected)


@each_kind
@given(
    kernel=st.sampled_from([1, 2, 3, 5]),
    stride=st.sampled_from([1, 2]),
    padding=st.integers(0, 2),
    factor=st.sampled_from([1, 2, 4]),
    groups=st.sampled_from([1, 2]),
    gamma=st.sampled_from([-1.0, 1.0]),
    scheme=st.sampled_from([BIDRN, BNN, REACTNET]),
)
@settings(max_examples=15)
def test_idempotent(
    kind: Kind, kernel: int, stride: int, padding: int, factor: int, groups: int, gamma: float, scheme: Scheme
) -> None:
    """Whatever it was applied to, a second run changes neither the graph nor a weight."""
    model = OneConv(4 * factor, 8, kernel, stride, padding, groups)
    nn.init.constant_(model.block[0].bn1.weight, gamma)
    graph = trace(model)
    rewrite = kind.rewrite(BinarizeOptions(scheme=scheme))
    rewrite(graph)
    once, state = lines(graph), {name: value.clone() for name, value in graph.state_dict().items()}
    result = rewrite(graph)
    assert not result.modified
    assert lines(graph) == once
    assert graph.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in graph.state_dict().items())
