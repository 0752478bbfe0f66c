"""The binarize passes on Hand4Whole itself: tiny with values, full on counts (meta device)."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn

from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import OUTPUTS, Hand4Whole
from bhpe_compile.networks.hand4whole.presets import FULL, TINY
from bhpe_compile.networks.layers.binary import BinaryLayer
from bhpe_compile.passes.base import Note
from bhpe_compile.passes.binarize import BIDRN, BNN, REACTNET, BinarizeOptions, Scheme, binarize, freeze

CORE = {"plain": 41, "down-scale": 6, "down-sample": 3, "fusion-up": 32, "fusion-down": 30}
"""The paper's kinds, 112 in all."""

FloatLayers = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


@pytest.fixture(scope="module")
def tiny() -> Hand4Whole:
    model = Hand4Whole(TINY)
    initialise(model, 0)
    return model


def on_meta(scheme: Scheme) -> tuple[fx.GraphModule, tuple[Note, ...]]:
    with torch.device("meta"):
        return binarize(Hand4Whole(FULL), BinarizeOptions(scheme=scheme))


@pytest.mark.parametrize(
    ("scheme", "others"),
    [(BIDRN, {"branch": 9}), (BNN, {"shortcuts": 11}), (REACTNET, {"shortcuts": 11})],
    ids=["bidrn", "bnn", "reactnet"],
)
def test_full_network_by_kind(scheme: Scheme, others: dict[str, int]) -> None:
    _, notes = on_meta(scheme)
    applied = [note for note in notes if note.applied and note.pass_name != "free-signs"]
    assert Counter(note.pass_name for note in applied) == CORE | others
    with torch.device("meta"):
        layers = [name for name, layer in Hand4Whole(FULL).named_modules() if isinstance(layer, FloatLayers)]
    assert Counter(note.site for note in notes if note.pass_name != "free-signs") == Counter(layers)
    stems = [note for note in notes if note.reason.startswith("stem")]
    assert len(stems) == 3
    refused = Counter(note.pass_name for note in notes if not note.applied)
    assert refused["shortcuts"] == 11 - others.get("shortcuts", 0)
    freed = [note for note in notes if note.pass_name == "free-signs" and note.applied]
    assert len(freed) == 3  # the ReLUs of the three stems
    assert all("removed" in note.reason for note in freed)


def test_full_network_weights_of_the_papers_row() -> None:
    """21.6078 M = 77,842,256 - binary + binary / 32 (BNN row); thresholds of reactnet: 48,896."""
    graph, _ = on_meta(BNN)
    binary = sum(layer.weight.numel() for layer in graph.modules() if isinstance(layer, BinaryLayer))
    assert round((77_842_256 - binary + binary / 32) / 1e6, 4) == 21.6078
    graph, _ = on_meta(REACTNET)
    assert (
        sum(value.numel() for name, value in graph.named_parameters() if name.endswith("threshold")) == 48_896
    )


def test_tiny_network_runs_trains_and_freezes(tiny: Hand4Whole) -> None:
    graph, _ = binarize(tiny, BinarizeOptions())
    x = torch.rand(2, 3, *TINY.image)
    out = graph(x)
    assert tuple(out) == OUTPUTS
    expected = tiny(x)
    assert all(out[name].shape == expected[name].shape for name in OUTPUTS)
    assert all(bool(torch.isfinite(value).all()) for value in out.values())
    graph.train()
    total = torch.stack([value.square().mean() for value in graph(x).values()]).sum()
    total.backward()  # type: ignore[no-untyped-call]
    layers = {name: layer for name, layer in graph.named_modules() if isinstance(layer, BinaryLayer)}
    silent = [
        name
        for name, layer in layers.items()
        if layer.weight.grad is None or not bool(layer.weight.grad.abs().sum() > 0)
    ]
    # Hand4Whole detaches its boxes: BoxNet learns from a loss of its own
    assert [name for name in silent if not name.startswith("box_net")] == []
    frozen = freeze(graph)
    assert all(bool(torch.isfinite(value).all()) for value in frozen(x).values())


def test_tiny_network_is_rebuilt_from_its_checkpoint(tiny: Hand4Whole) -> None:
    options = BinarizeOptions(keep_float=("backbone.layer4.*",), residual_tap="before")
    graph, _ = binarize(tiny, options)
    with torch.no_grad():
        for parameter in graph.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape))
    rebuilt, _ = binarize(Hand4Whole(TINY), BinarizeOptions.from_dict(options.to_dict()))
    rebuilt.load_state_dict(graph.state_dict())
    x = torch.rand(1, 3, *TINY.image)
    expected, got = graph.eval()(x), rebuilt.eval()(x)
    assert all(torch.equal(got[name], expected[name]) for name in OUTPUTS)


with torch.device("meta"):
    LAYERS = [name for name, one in Hand4Whole(TINY).named_modules() if isinstance(one, FloatLayers)]


@given(
    scheme=st.sampled_from([BIDRN, BNN, REACTNET]),
    keep=st.lists(st.sampled_from(LAYERS), max_size=30, unique=True),
    force=st.lists(st.sampled_from(LAYERS), max_size=10, unique=True),
)
@settings(max_examples=12)
def test_any_choice_of_layers_gives_a_valid_network(
    scheme: Scheme, keep: list[str], force: list[str]
) -> None:
    """On the meta device: shapes, graph and notes; values are checked on the small network."""
    options = BinarizeOptions(scheme, tuple(keep), tuple(force))
    with torch.device("meta"):
        graph, notes = binarize(Hand4Whole(TINY), options)
        out = graph(torch.empty(2, 3, *TINY.image))
    graph.graph.lint()
    assert tuple(out) == OUTPUTS
    named = [note for note in notes if note.pass_name != "free-signs"]
    assert Counter(note.site for note in named) == Counter(LAYERS)
    for note in named:
        assert isinstance(graph.get_submodule(note.site), BinaryLayer) == note.applied
        assert not (note.applied and note.site in keep)


@pytest.mark.parametrize("scheme", [BIDRN, REACTNET])
def test_signs_of_heat_maps_say_where_something_is(tiny: Hand4Whole, scheme: Scheme) -> None:
    """A softmax is never negative: against 1 / cells every joint has cells of both signs."""
    graph, _ = binarize(tiny, BinarizeOptions(scheme=scheme, binarize=("box_net.deconv.0",)))
    layer = graph.get_submodule("box_net.deconv.0")
    assert isinstance(layer, BinaryLayer)
    features = TINY.body_trunk.out_channels
    cells = TINY.heatmap_depth * TINY.body_cells[0] * TINY.body_cells[1]
    assert not layer.threshold[:features].any()
    assert torch.equal(layer.threshold[features:], torch.full((200,), 1 / cells))
    seen: list[torch.Tensor] = []
    layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.no_grad():
        graph.eval()(torch.rand(2, 3, *TINY.image, generator=torch.Generator().manual_seed(3)))
    above = (seen[0] >= layer.threshold[:, None, None])[:, features:].unflatten(1, (25, -1)).flatten(2)
    assert above.any(2).all()
    assert not above.all(2).any()


def test_old_students_keep_their_thresholds(tiny: Hand4Whole) -> None:
    """A checkpoint from before holds zeros for the heat maps, and computes as it did."""
    graph, _ = binarize(tiny, BinarizeOptions())
    state = graph.state_dict()
    assert "box_net.deconv.0.neutral" not in state
    state["box_net.deconv.0.threshold"] = torch.zeros_like(state["box_net.deconv.0.threshold"])
    graph.load_state_dict(state)
    layer = graph.get_submodule("box_net.deconv.0")
    assert isinstance(layer, BinaryLayer)
    assert not layer.threshold.any()
