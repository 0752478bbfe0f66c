"""The pass for shortcut convolutions: binary in bnn and reactnet, full precision in bidrn."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from bhpe_compile.passes.binarize import BIDRN, BNN, REACTNET, BinarizeOptions, Scheme, trace
from bhpe_compile.passes.binarize.shortcuts import Shortcuts
from tests.passes.binarize.nets import ROLES, lines, picture, randomise, shortcut


class Block(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.downsample = shortcut(cin, cout, stride)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.downsample is None else self.downsample(x)


class OneShortcut(nn.Module):
    roles = ROLES

    def __init__(self, cin: int = 4, cout: int = 8, stride: int = 2) -> None:
        super().__init__()
        self.layer2 = nn.Sequential(Block(cin, cout, stride))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return functional.relu(y + self.layer2(x))


BEFORE = [
    "layer2.0.downsample.0(x)",
    "layer2.0.downsample.1(layer2_0_downsample_0)",
    "add(y, layer2_0_downsample_1)",
    "relu(add)",
]


def test_before_and_after() -> None:
    graph = trace(OneShortcut())
    assert lines(graph) == BEFORE
    assert Shortcuts(BinarizeOptions(scheme=BNN))(graph).modified
    assert lines(graph) == [
        "layer2.0.downsample.0_clip(x)",
        "layer2.0.downsample.0(layer2_0_downsample_0_clip)",
        *BEFORE[1:],
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (BinarizeOptions(), "scheme bidrn makes no shortcut binary"),
        (BinarizeOptions(scheme=BNN, keep_float=("*.downsample.0",)), "--keep-float '*.downsample.0'"),
    ],
)
def test_refuses_with_a_reason(options: BinarizeOptions, reason: str) -> None:
    graph = trace(OneShortcut())
    result = Shortcuts(options)(graph)
    assert not result.modified
    assert lines(graph) == BEFORE
    (note,) = result.notes
    assert not note.applied
    assert reason in note.reason


def test_forced_by_name_in_bidrn() -> None:
    graph = trace(OneShortcut())
    (note,) = Shortcuts(BinarizeOptions(binarize=("layer2.*",)))(graph).notes
    assert note.applied


def test_equals_a_composition_of_plain_torch() -> None:
    model = randomise(OneShortcut()).eval()
    weight = model.get_submodule("layer2.0.downsample.0").weight
    norm = model.get_submodule("layer2.0.downsample.1")
    assert isinstance(weight, Tensor)
    x, y = picture(12, channels=4), torch.zeros(2, 8, 6, 6)
    bits, signs = (1.0 - 2.0 * (one < 0).float() for one in (x, weight))
    expected = norm(functional.conv2d(bits, signs, None, 2) * weight.abs().mean((1, 2, 3))[:, None, None])
    graph = trace(model)
    Shortcuts(BinarizeOptions(scheme=BNN))(graph)
    assert torch.equal(graph(x, y), functional.relu(expected))


@given(
    cin=st.integers(1, 9),
    cout=st.integers(10, 20),
    stride=st.integers(1, 2),
    scheme=st.sampled_from([BIDRN, BNN, REACTNET]),
)
@settings(max_examples=20)
def test_idempotent(cin: int, cout: int, stride: int, scheme: Scheme) -> None:
    graph = trace(OneShortcut(cin, cout, stride))
    rewrite = Shortcuts(BinarizeOptions(scheme=scheme))
    rewrite(graph)
    once = lines(graph)
    assert not rewrite(graph).modified
    assert lines(graph) == once
