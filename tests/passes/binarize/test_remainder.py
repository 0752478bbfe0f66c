"""The pass for stems, heads and core convolutions outside the five kinds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from bhpe_compile.networks.layers.binary import BinaryConv2d, BinaryLinear
from bhpe_compile.passes.binarize import BNN, BinarizeOptions, trace
from bhpe_compile.passes.binarize.remainder import Remainder
from tests.passes.binarize.nets import ROLES, Bottleneck, Heads, OneConv, Trunk, lines, picture, randomise


class Rotation(nn.Module):
    roles = ROLES

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.body_rotation_net = Heads(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.body_rotation_net(x)  # type: ignore[no-any-return]


HEAD = "body_rotation_net.body_conv.0"
LINEAR = "body_rotation_net.root_pose_out.0"


def test_before_and_after() -> None:
    graph = trace(Rotation())
    result = Remainder(BinarizeOptions(binarize=("body_rotation_net.*",)))(graph)
    assert [(note.site, note.applied) for note in result.notes] == [(HEAD, True), (LINEAR, True)]
    assert lines(graph) == [
        f"{HEAD}_clip(x)",
        f"{HEAD}(body_rotation_net_body_conv_0_clip)",
        "body_rotation_net.body_conv.1(body_rotation_net_body_conv_0)",
        f"{HEAD}_activation(body_rotation_net_body_conv_1)",
        "mean(body_rotation_net_body_conv_0_activation)",
        f"{LINEAR}_clip(mean)",
        f"{LINEAR}(body_rotation_net_root_pose_out_0_clip)",
    ]
    assert isinstance(graph.get_submodule(HEAD), BinaryConv2d)
    assert isinstance(graph.get_submodule(LINEAR), BinaryLinear)


def test_heads_stay_by_default_and_say_so() -> None:
    graph = trace(Rotation())
    before = lines(graph)
    result = Remainder()(graph)
    assert not result.modified
    assert lines(graph) == before
    assert [note.site for note in result.notes] == [HEAD, LINEAR]
    assert all("not binary in any scheme" in note.reason for note in result.notes)


def test_keep_float_wins_over_binarize() -> None:
    options = BinarizeOptions(keep_float=("*body_conv*",), binarize=("*",))
    notes = {note.site: note for note in Remainder(options)(trace(Rotation())).notes}
    assert not notes[HEAD].applied
    assert "--keep-float" in notes[HEAD].reason
    assert notes[LINEAR].applied


def test_a_stem_is_never_binary() -> None:
    (note,) = Remainder(BinarizeOptions(binarize=("conv1",)))(trace(Trunk(Bottleneck))).notes
    assert note.site == "conv1"
    assert not note.applied
    assert "picture" in note.reason


@pytest.mark.parametrize(("cin", "cout", "stride"), [(8, 12, 1), (16, 8, 2), (8, 8, 3)])
def test_core_convolutions_without_a_residual_of_their_shape(cin: int, cout: int, stride: int) -> None:
    (note,) = Remainder()(trace(OneConv(cin, cout, 3, stride))).notes
    assert not note.applied
    assert "none of the five kinds" in note.reason
    graph = trace(OneConv(cin, cout, 3, stride))
    (note,) = Remainder(BinarizeOptions(scheme=BNN))(graph).notes
    assert note.applied
    assert lines(graph)[-1] == "layer1.0.conv1_activation(layer1_0_bn1)"


def test_equals_a_composition_of_plain_torch() -> None:
    model = randomise(Rotation()).eval()
    weights = model.state_dict()
    norm = model.get_submodule("body_rotation_net.body_conv.1")
    x = picture(12, channels=4)

    def sign(values: Tensor) -> Tensor:
        return 1.0 - 2.0 * (values < 0).float()

    conv, linear = weights[f"{HEAD}.weight"], weights[f"{LINEAR}.weight"]
    y = functional.conv2d(sign(x), sign(conv)) * conv.abs().mean((1, 2, 3))[:, None, None]
    y = norm(y + weights[f"{HEAD}.bias"][:, None, None])
    y = torch.where(y > 0, y, 0.25 * y).mean((2, 3))
    y = functional.linear(sign(y), sign(linear)) * linear.abs().mean(1) + weights[f"{LINEAR}.bias"]
    graph = trace(model)
    Remainder(BinarizeOptions(binarize=("*",)))(graph)
    assert torch.equal(graph(x), y)


@given(channels=st.integers(1, 9), forced=st.sampled_from([(), ("*",), (HEAD,), (LINEAR,)]))
@settings(max_examples=20)
def test_idempotent(channels: int, forced: tuple[str, ...]) -> None:
    graph = trace(Rotation(channels))
    rewrite = Remainder(BinarizeOptions(binarize=forced))
    assert rewrite(graph).modified == bool(forced)
    once = lines(graph)
    assert not rewrite(graph).modified
    assert lines(graph) == once


class Tokens(nn.Module):
    """A convolution, an attention of its cells to themselves, and a linear layer of their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.LayerNorm(4)
        self.query, self.out = nn.Linear(4, 4), nn.Linear(4, 4)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        cells = self.conv(x).flatten(2).transpose(1, 2)
        tokens = self.norm(cells)
        scores = torch.softmax(self.query(tokens) @ tokens.transpose(1, 2), 2)
        return self.second(functional.relu(self.first(self.out(scores @ tokens))).mean(1))


def test_layers_of_an_attention_say_so() -> None:
    notes = {note.site: note.reason for note in Remainder()(trace(Tokens())).notes}
    tokens = {site for site, reason in notes.items() if "tokens of an attention" in reason}
    assert tokens == {"query", "out"}
    assert all("not binary in any scheme" in notes[site] for site in ("query", "first", "second"))


class Scores(nn.Module):
    """A linear layer whose results are compared in one way: `compare` of its tokens and of what they come from."""

    def __init__(self, compare: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.query, self.compare = nn.Linear(4, 4), nn.Linear(4, 4), compare

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x)
        return self.compare(self.query(tokens), tokens)


@pytest.mark.parametrize(
    ("compare", "tells"),
    [
        (lambda q, x: q.softmax(2), True),
        (lambda q, x: q.matmul(x), True),
        (lambda q, x: q.bmm(x), True),
        (lambda q, x: torch.softmax(q, 2), True),
        (lambda q, x: functional.softmax(q, 2), True),
        (lambda q, x: torch.matmul(q, x), True),
        (lambda q, x: torch.bmm(q, x), True),
        (lambda q, x: q @ x, True),
        (lambda q, x: q.relu() * x, False),
    ],
)
def test_what_compares_tokens(compare: Callable[[Tensor, Tensor], Tensor], tells: bool) -> None:
    reasons = {note.site: note.reason for note in Remainder()(trace(Scores(compare))).notes}
    assert ("tokens of an attention" in reasons["query"]) == tells
