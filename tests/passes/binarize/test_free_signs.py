"""The pass that takes ReLUs away from signs, whose result would be constant behind them."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from bhpe_compile.networks.layers.binary import BinaryConv2d, BinaryLayer
from bhpe_compile.passes.binarize import BinarizeOptions, binarize, trace
from bhpe_compile.passes.binarize.free_signs import FreeSigns
from tests.passes.binarize.nets import ROLES, Basic, Bottleneck, Trunk, Whole, lines, picture, randomise


def binary(cin: int = 4, cout: int = 4) -> BinaryConv2d:
    return BinaryConv2d.from_float(nn.Conv2d(cin, cout, 1, bias=False))


class Chain(nn.Module):
    """conv -> ReLU -> max-pool -> sign, with an optional full-precision reader of the pooled tensor."""

    roles = ROLES

    def __init__(self, reader: str | None) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 1)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.conv_clip = nn.Hardtanh()
        self.conv = binary()
        self.reader = reader
        if reader is not None:
            self.add_module(reader, nn.Conv2d(4, 4, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.pool(self.relu(self.first(x)))
        y = self.conv(self.conv_clip(x))
        return (y,) if self.reader is None else (y, self.get_submodule(self.reader)(x))


def test_before_and_after() -> None:
    graph = trace(Chain(None))
    assert lines(graph) == [
        "first(x)",
        "relu(first)",
        "pool(relu)",
        "conv_clip(pool)",
        "conv(conv_clip)",
    ]
    result = FreeSigns()(graph)
    assert result.modified
    assert lines(graph) == ["first(x)", "pool(first)", "conv_clip(pool)", "conv(conv_clip)"]
    (note,) = result.notes
    assert (note.site, note.applied) == ("relu", True)
    assert "removed" in note.reason


@pytest.mark.parametrize(
    ("bounded", "goes"), [(nn.ReLU6(), True), (nn.Hardtanh(0, 3), True), (nn.Hardtanh(), False)]
)
def test_a_bound_above_does_not_save_a_relu(bounded: nn.Module, goes: bool) -> None:
    model = Chain(None)
    model.relu = bounded  # type: ignore[assignment]
    graph = trace(model)
    assert FreeSigns()(graph).modified is goes
    assert ("relu(first)" in lines(graph)) is not goes


def test_a_full_precision_reader_keeps_its_relu() -> None:
    model = randomise(Chain("head"))
    model.get_buffer("conv.threshold").zero_()
    x = picture(8, channels=4)
    head = model(x)[1]
    graph = trace(model)
    (note,) = FreeSigns()(graph).notes
    assert note.applied
    assert note.reason == "bypassed before signs; stays for head"
    assert lines(graph) == [
        "first(x)",
        "relu(first)",
        "pool(relu)",
        "pool(first)",
        "conv_clip(pool_1)",
        "conv(conv_clip)",
        "head(pool)",
    ]
    signed, same = graph(x)
    assert torch.equal(same, head)
    clipped = model.get_submodule("pool")(model.get_submodule("first")(x)).clamp(-1, 1)
    assert torch.equal(signed, model.get_submodule("conv")(clipped))
    assert len(model(x)[0].unique()) == 4  # one value per channel: the sign of a ReLU is constant
    assert len(signed.unique()) > 4


def test_leaves_relus_that_reach_no_sign() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.relu(self.first(x)))  # type: ignore[no-any-return]

    graph = trace(Plain())
    before = lines(graph)
    result = FreeSigns()(graph)
    assert not result.modified
    assert lines(graph) == before
    (note,) = result.notes
    assert not note.applied
    assert "reaches no sign" in note.reason


METHODS = (
    *("contiguous", "flatten", "flip", "mean", "permute", "reshape", "squeeze", "transpose"),
    *("unflatten", "unsqueeze", "view"),
)
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "getitem": lambda x: x[:, 1:],
    "flatten": lambda x: torch.flatten(x, 2),
    "mean": torch.mean,
    "avg_pool2d": lambda x: functional.avg_pool2d(x, 2),
    "grid_sample": lambda x: functional.grid_sample(x, x, align_corners=False),
    "max_pool2d": lambda x: functional.max_pool2d(x, 2),
} | {f".{name}": methodcaller(name) for name in METHODS}
"""What of a tensor that is not negative gives another one; a name with a dot is a method's."""


@pytest.mark.parametrize("name", [*FUNCTIONS, "neg", ".neg"])
def test_what_keeps_a_tensor_from_being_negative(name: str) -> None:
    """The graph alone counts, so shapes need not fit."""

    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = binary()

        def forward(self, x: Tensor) -> Tensor:
            between = FUNCTIONS.get(name) or (methodcaller("neg") if name == ".neg" else torch.neg)
            return self.conv(between(torch.relu(x)))  # type: ignore[no-any-return]

    graph = trace(Between())
    assert FreeSigns()(graph).modified == (name in FUNCTIONS)
    assert any("relu" in line for line in lines(graph)) == (name not in FUNCTIONS)


class Sums(nn.Module):
    """ReLU + other -> sign, where the other operand is signed or not."""

    roles = ROLES

    def __init__(self, signed: bool) -> None:
        super().__init__()
        self.conv = binary()
        self.signed = signed

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        total = torch.relu(x) + (y if self.signed else y.relu())
        return self.conv(total)  # type: ignore[no-any-return]


def test_a_sum_is_constant_in_sign_only_if_both_operands_are() -> None:
    graph = trace(Sums(signed=True))
    assert not FreeSigns()(graph).modified
    graph = trace(Sums(signed=False))
    result = FreeSigns()(graph)
    assert [note.applied for note in result.notes] == [True, True]
    assert lines(graph) == ["add(x, y)", "conv(add)"]


def test_a_concatenation_is_freed_operand_by_operand() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = binary(8)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.conv(torch.cat((x.relu(), y.tanh()), 1))  # type: ignore[no-any-return]

    graph = trace(Parts())
    FreeSigns()(graph)
    assert lines(graph) == ["tanh(y)", "cat(x, tanh)", "conv(cat)"]


@pytest.mark.parametrize("kind", [Bottleneck, Basic])
def test_the_stem_relu_goes_with_its_shortcut(kind: type[Bottleneck] | type[Basic]) -> None:
    """The block shortcut behind the stem reads the signed tensor too: no ReLU is left in a binary trunk."""
    graph, notes = binarize(Trunk(kind), BinarizeOptions())
    assert not any("relu" in line for line in lines(graph))
    assert [note.site for note in notes if note.pass_name == "free-signs"] == ["relu"]


def test_a_kept_block_end_keeps_its_relu_only_for_kept_readers() -> None:
    """layer1.1.conv3 float: its ReLU is read by signs and a shortcut. With layer2.0.conv1 float too, it stays."""
    graph, _ = binarize(Trunk(Bottleneck), BinarizeOptions(keep_float=("layer1.1.conv3",)))
    assert not any("relu" in line for line in lines(graph))
    keep = ("layer1.1.conv3", "layer2.0.conv1")
    graph, notes = binarize(Trunk(Bottleneck), BinarizeOptions(keep_float=keep))
    assert [line for line in lines(graph) if "relu" in line.split("(")[0]] == ["layer1.1.relu(add_1)"]
    assert sum(not note.applied for note in notes if note.pass_name == "free-signs") == 1


def test_heads_keep_the_relu_of_a_kept_trunk_while_boxes_get_signs() -> None:
    model = randomise(Whole()).eval()
    x = picture()
    graph, notes = binarize(model, BinarizeOptions(keep_float=("backbone.*",)))
    expected, got = model(x), graph.eval()(x)
    assert torch.equal(got["heat"], expected["heat"])
    assert torch.equal(got["pose"], expected["pose"])
    assert sum("bypassed" in note.reason for note in notes) == 1


@given(
    reader=st.sampled_from([None, "head", "layer1"]),
    keep=st.lists(
        st.sampled_from(["backbone.layer*.conv1", "*conv2", "*conv3", "box_net.*", "*.0.*"]), max_size=3
    ),
)
@settings(max_examples=10)
def test_idempotent(reader: str | None, keep: list[str]) -> None:
    for graph in (trace(Chain(reader)), binarize(Whole(), BinarizeOptions(keep_float=tuple(keep)))[0]):
        FreeSigns()(graph)
        once = lines(graph)
        result = FreeSigns()(graph)
        assert not result.modified
        assert not any(note.applied for note in result.notes)
        assert lines(graph) == once


def test_no_sign_of_a_binary_network_is_constant() -> None:
    """The property the pass exists for, measured: every binary layer sees both signs."""
    graph, _ = binarize(randomise(Whole()).eval(), BinarizeOptions())
    seen: dict[str, Tensor] = {}
    for path, module in graph.named_modules():
        if isinstance(module, BinaryLayer):
            module.register_forward_pre_hook(lambda _, args, path=path: seen.update({path: args[0]}))
    graph(picture())
    assert len(seen) == 25
    for path, value in seen.items():
        assert bool((value < 0).any()), path
        assert bool((value >= 0).any()), path
