"""The pass that rounds in torch what compiling rounds: the ONNX passes are its oracle."""

from __future__ import annotations

import copy

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import fx, nn

from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.pipeline import Compilation
from bhpe_compile.exchange.calibrate import calibrate
from bhpe_compile.networks.layers.rounding import Half, RoundedConv2d, RoundedInput, RoundedLinear
from bhpe_compile.passes.binarize import SCHEMES, BinarizeOptions, RoundStorage, binarize, freeze, trace
from bhpe_compile.passes.binarize.round_storage import kept_maps
from tests.passes.binarize.nets import ROLES, Basic, Trunk, Whole, lines, picture, randomise


class Stage(nn.Module):
    """A stem and one block with a shortcut of its own."""

    roles = ROLES

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Basic(8, 16, 2))
        self.root_pose_out = nn.Sequential(nn.Linear(16, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer1(self.maxpool(self.conv1(x)))
        return self.root_pose_out(x.mean((2, 3)))  # type: ignore[no-any-return]


BEFORE = [
    "conv1(x)",
    "maxpool(conv1)",
    "layer1.0.conv1_clip(maxpool)",
    "layer1.0.conv1(layer1_0_conv1_clip)",
    "layer1.0.bn1(layer1_0_conv1)",
    "layer1.0.conv1_residual(layer1_0_conv1_clip)",
    "add(layer1_0_bn1, layer1_0_conv1_residual)",
    "layer1.0.conv1_activation(add_2)",
    "layer1.0.conv2_clip(layer1_0_conv1_activation)",
    "layer1.0.conv2(layer1_0_conv2_clip)",
    "layer1.0.bn2(layer1_0_conv2)",
    "layer1.0.conv2_residual(layer1_0_conv2_clip)",
    "add(layer1_0_bn2, layer1_0_conv2_residual)",
    "layer1.0.conv2_activation(add_1)",
    "layer1.0.downsample.0(maxpool)",
    "layer1.0.downsample.1(layer1_0_downsample_0)",
    "add(layer1_0_conv2_activation, layer1_0_downsample_1)",
    "mean(add)",
    "root_pose_out.0(mean)",
]
AFTER = [
    "conv1(x)",
    "conv1_half(conv1)",  # max-pooled
    "maxpool(conv1_half)",
    "maxpool_half(maxpool)",
    "layer1.0.conv1_clip(maxpool)",  # its signs are taken before the rounding,
    "layer1.0.conv1_clip(maxpool_half)",  # the residual starts behind it
    "layer1.0.conv1(layer1_0_conv1_clip_1)",
    "layer1.0.bn1(layer1_0_conv1)",
    "layer1.0.conv1_residual(layer1_0_conv1_clip)",
    "add(layer1_0_bn1, layer1_0_conv1_residual)",
    "layer1.0.conv1_activation(add_2)",
    "layer1_0_conv1_activation_half(layer1_0_conv1_activation)",
    "layer1.0.conv2_clip(layer1_0_conv1_activation)",
    "layer1.0.conv2_clip(layer1_0_conv1_activation_half)",
    "layer1.0.conv2(layer1_0_conv2_clip_1)",
    "layer1.0.bn2(layer1_0_conv2)",
    "layer1.0.conv2_residual(layer1_0_conv2_clip)",
    "add(layer1_0_bn2, layer1_0_conv2_residual)",
    "layer1.0.conv2_activation(add_1)",
    "layer1.0.downsample.0(maxpool_half)",
    "layer1.0.downsample.1(layer1_0_downsample_0)",
    "layer1_0_downsample_1_half(layer1_0_downsample_1)",  # the shortcut of a binary layer
    "add(layer1_0_conv2_activation, layer1_0_downsample_1_half)",
    "mean(add)",
    "root_pose_out.0(mean)",
]


def scheme_graph(net: nn.Module, scheme: str = "bidrn", seed: int = 0) -> fx.GraphModule:
    """Thresholds away from 0, some outside their Hardtanh."""
    graph, _ = binarize(net.eval(), BinarizeOptions(scheme=SCHEMES[scheme]))
    randomise(graph, seed)
    return freeze(graph)


def test_before_and_after() -> None:
    graph = freeze(binarize(randomise(Stage()).eval(), BinarizeOptions())[0])  # all thresholds are 0
    assert lines(graph) == BEFORE
    result = RoundStorage({"conv1": (-1.0, 2.0)})(graph)
    assert lines(graph) == AFTER
    stem, shortcut = graph.get_submodule("conv1"), graph.get_submodule("layer1.0.downsample.0")
    assert isinstance(stem, RoundedConv2d)
    assert isinstance(shortcut, RoundedConv2d)
    assert (stem.span, shortcut.span) == ((-1.0, 2.0), None)
    assert isinstance(graph.get_submodule("root_pose_out.0"), RoundedLinear)
    assert [note.applied for note in result.notes] == [True] * 7
    assert result.modified


def test_nothing_binary_nothing_asked() -> None:
    """A network in full precision keeps no map in float16 but what is max-pooled; without options nothing changes."""
    graph = trace(randomise(Trunk(Basic)).eval())
    before = lines(graph)
    result = RoundStorage(dense=False, half=False)(graph)
    assert (lines(graph), result.modified, result.notes) == (before, False, ())
    assert kept_maps(graph) == ("relu",)
    assert not RoundStorage(dense=False, wide={"relu"})(graph).modified
    halves = [note.site for note in RoundStorage(dense=False)(graph).notes]
    assert halves == ["relu"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_state_keeps_its_names(scheme: str) -> None:
    graph = scheme_graph(Whole(), scheme)
    names = {name: value.clone() for name, value in graph.state_dict().items()}
    RoundStorage()(graph)
    state = graph.state_dict()
    assert list(state) == list(names)
    assert all(torch.equal(state[name], value) for name, value in names.items())


@given(
    scheme=st.sampled_from(sorted(SCHEMES)),
    size=st.sampled_from([32, 48]),
    seed=st.integers(0, 99),
    parts=st.sampled_from([(True, True), (True, False), (False, True)]),
)
@settings(
    max_examples=10,
    derandomize=True,
    phases=[Phase.generate],
)
def test_it_computes_what_the_folded_model_computes(
    scheme: str, size: int, seed: int, parts: tuple[bool, bool]
) -> None:
    """ONNX Runtime on the file with its casts and 8-bit layers, signs and all."""
    dense, half = parts
    graph = scheme_graph(Whole(), scheme, seed)
    image = picture(size, 1, seed=seed).numpy()
    ranges = calibrate(graph, [{"image": image}]).ranges() if dense else None
    options = CompileOptions("", dense="int8" if dense else "fp32", residual="fp16" if half else "fp32")
    compiled = Compilation.of_graph(graph, {"image": image}, options, ranges=ranges)
    session = onnxruntime.InferenceSession(compiled.onnx_bytes, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    expected = dict(zip(names, session.run(None, {session.get_inputs()[0].name: image}), strict=True))
    RoundStorage(ranges, dense=dense, half=half)(graph)
    with torch.no_grad():
        found = graph(torch.from_numpy(image))
    for name, values in expected.items():
        # float32 sums in another order; a value in the middle between two levels may fall to either side
        wrong = np.abs(found[name].numpy() - values) > 1e-3 * np.abs(values).max()
        assert wrong.mean() < 0.01, name


def test_twice_is_once() -> None:
    graph = scheme_graph(Whole())
    ranges = {"backbone.conv1": (-1.0, 1.0)}
    RoundStorage(ranges)(graph)
    once = copy.deepcopy(graph)
    image = picture()
    RoundStorage(ranges)(graph)
    with torch.no_grad():
        first, second = once(image), graph(image)
    assert all(torch.equal(first[name], second[name]) for name in first)
    count = [sum(isinstance(m, Half | RoundedInput) for m in g.modules()) for g in (once, graph)]
    assert count[0] == count[1]
