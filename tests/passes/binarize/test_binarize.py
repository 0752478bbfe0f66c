"""The whole storey on a small whole network: every layer named once, valid for any choice, trainable, rebuildable."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn
from torch.nn import functional

from bhpe_compile.networks.layers.binary import BinaryLayer
from bhpe_compile.passes import binarize as package
from bhpe_compile.passes.base import Note, PassManager, PassOrderError, PassRecord
from bhpe_compile.passes.binarize import (
    BIDRN,
    BINARIZE_PASSES,
    BNN,
    REACTNET,
    BinarizeOptions,
    Scheme,
    binarize,
    binarize_passes,
    freeze,
    trace,
)
from tests.passes.binarize.nets import Whole, picture, randomise


def test_what_is_offered_is_there() -> None:
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


LAYERS = [
    name
    for name, layer in Whole().named_modules()
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
]


def layer_notes(notes: tuple[Note, ...]) -> dict[str, Note]:
    """Notes by layer; fails where a layer has none or several."""
    named = [note for note in notes if note.pass_name != "free-signs"]
    assert Counter(note.site for note in named) == Counter(LAYERS)
    assert all(note.reason for note in named)
    return {note.site: note for note in named}


@pytest.mark.parametrize(
    ("scheme", "counts"),
    [
        (
            BIDRN,
            {
                "plain": 11,
                "down-scale": 1,
                "down-sample": 1,
                "fusion-up": 4,
                "fusion-down": 3,
                "branch": 5,
            },
        ),
        (
            BNN,
            {
                "plain": 11,
                "down-scale": 1,
                "down-sample": 1,
                "fusion-up": 4,
                "fusion-down": 3,
                "shortcuts": 3,
            },
        ),
        (
            REACTNET,
            {
                "plain": 11,
                "down-scale": 1,
                "down-sample": 1,
                "fusion-up": 4,
                "fusion-down": 3,
                "shortcuts": 3,
            },
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Scheme) else "",
)
def test_counts_by_kind(scheme: Scheme, counts: dict[str, int]) -> None:
    _, notes = binarize(Whole(), BinarizeOptions(scheme=scheme))
    applied = Counter(note.pass_name for note in layer_notes(notes).values() if note.applied)
    assert applied == counts


def test_the_model_is_left_alone_and_weights_are_taken_over() -> None:
    model = randomise(Whole())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph, _ = binarize(model, BinarizeOptions())
    state = graph.state_dict()
    assert all(torch.equal(state[name], value) for name, value in before.items())
    with torch.no_grad():
        for parameter in graph.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


choices = st.fixed_dictionaries(
    {
        "scheme": st.sampled_from([BIDRN, BNN, REACTNET]),
        "keep_float": st.lists(st.sampled_from(LAYERS), max_size=12, unique=True).map(tuple),
        "binarize": st.lists(st.sampled_from(LAYERS), max_size=4, unique=True).map(tuple),
        "residual_tap": st.sampled_from(["after", "before"]),
    }
)


@given(choices)
@settings(max_examples=40)
def test_any_choice_of_layers_gives_a_valid_network(choice: dict[str, object]) -> None:
    options = BinarizeOptions(**choice)  # type: ignore[arg-type]
    graph, notes = binarize(randomise(Whole()).eval(), options)
    graph.graph.lint()
    decided = layer_notes(notes)
    for path, note in decided.items():
        assert isinstance(graph.get_submodule(path), BinaryLayer) == note.applied
    for path in options.keep_float:
        assert not decided[path].applied
    out = graph(picture())
    assert {name: tuple(value.shape) for name, value in out.items()} == {
        "heat": (2, 4, 4, 4),
        "pose": (2, 6),
        "centre": (2, 3),
        "size": (2, 2),
        "face": (2, 16, 4, 4),
    }
    assert all(bool(torch.isfinite(value).all()) for value in out.values())


def test_keeping_everything_changes_nothing() -> None:
    model = randomise(Whole()).eval()
    graph, notes = binarize(model, BinarizeOptions(keep_float=("*",)))
    assert not any(note.applied for note in notes)
    x = picture()
    expected, got = model(x), graph(x)
    assert all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.mark.parametrize("scheme", [BIDRN, BNN, REACTNET], ids=lambda scheme: scheme.name)
def test_training_reduces_a_loss(scheme: Scheme) -> None:
    torch.manual_seed(0)
    graph, _ = binarize(Whole(), BinarizeOptions(scheme=scheme))
    graph.train()
    x = picture(batch=4)
    target = torch.randn(4, 6)
    step = torch.optim.SGD(graph.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for _ in range(30):
        loss = functional.mse_loss(graph(x)["pose"], target)
        step.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        step.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    missing = [
        name for name, one in graph.named_parameters() if name.startswith("backbone") and one.grad is None
    ]
    assert missing == []


@given(choices)
@settings(max_examples=8)
def test_a_checkpoint_rebuilds_the_network(choice: dict[str, object]) -> None:
    """State and options are all that is stored: trace, binarize, load_state_dict give the same outputs."""
    options = BinarizeOptions(**choice)  # type: ignore[arg-type]
    graph, _ = binarize(Whole(), options)
    randomise(graph, seed=7)
    rebuilt, _ = binarize(Whole(), BinarizeOptions.from_dict(options.to_dict()))
    rebuilt.load_state_dict(graph.state_dict())
    x = picture()
    expected, got = graph.eval()(x), rebuilt.eval()(x)
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_a_full_precision_state_loads_into_a_binary_network() -> None:
    graph, _ = binarize(Whole(), BinarizeOptions(scheme=REACTNET))
    missing, unexpected = graph.load_state_dict(randomise(Whole()).state_dict(), strict=False)
    assert unexpected == []
    assert {name.rpartition(".")[2] for name in missing} == {"threshold", "bias", "gamma", "beta", "zeta"}


def test_a_traced_graph_may_be_given() -> None:
    model = randomise(Whole()).eval()
    graph = trace(model)
    first, notes = binarize(graph, BinarizeOptions())
    second, same = binarize(model, BinarizeOptions())
    assert notes == same
    assert first.code == second.code


def test_the_observer_sees_every_pass() -> None:
    seen: list[tuple[str, bool]] = []

    def observe(record: PassRecord, graph: fx.GraphModule) -> None:
        seen.append((record.name, isinstance(graph, fx.GraphModule)))

    binarize(Whole(), BinarizeOptions(), observe)
    assert seen == [(one.name, True) for one in BINARIZE_PASSES]


def test_a_second_run_changes_nothing() -> None:
    graph, _ = binarize(Whole(), BinarizeOptions())
    manager = PassManager(binarize_passes(BinarizeOptions()))
    code = graph.code
    assert manager.run(graph).code == code
    assert not any(record.modified for record in manager.records)


def test_the_remainder_comes_last_of_the_layers() -> None:
    first, *others = binarize_passes(BinarizeOptions())
    with pytest.raises(PassOrderError, match="remainder needs plain decided"):
        PassManager([*others, first]).run(trace(Whole()))


def test_frozen_network_exports_with_one_node_per_binary_layer() -> None:
    graph, notes = binarize(randomise(Whole()), BinarizeOptions())
    program = torch.export.export(freeze(graph), (picture(),))
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    layers = sum(target.startswith("bhpe.binary") for target in targets)
    assert layers == sum(note.applied for note in notes if note.pass_name != "free-signs")


def test_meta_device() -> None:
    with torch.device("meta"):
        graph, _ = binarize(Whole(), BinarizeOptions())
    assert all(value.is_meta for value in graph.state_dict().values())
