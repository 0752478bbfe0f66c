"""The binary layers: what they take over, their scale, freezing, and one node each in every graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bhpe_compile.networks.layers.binary import (
    NEUTRAL,
    BinaryConv2d,
    BinaryConvTranspose2d,
    BinaryLayer,
    BinaryLinear,
    RPReLU,
)
from bhpe_compile.networks.layers.residual import LocalResidual, residual_kind

KINDS: list[tuple[type[BinaryLayer], nn.Module]] = [
    (BinaryConv2d, nn.Conv2d(3, 4, 3)),
    (BinaryConvTranspose2d, nn.ConvTranspose2d(3, 4, 4, 2, 1)),
    (BinaryLinear, nn.Linear(3, 4)),
]


def signs(x: Tensor) -> Tensor:
    return 1.0 - 2.0 * (x < 0).float()


def conv() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(6, 4, 3, 2, 1, bias=False)


def test_conv_takes_over_weight_and_computes_scale() -> None:
    layer = conv()
    binary = BinaryConv2d.from_float(layer)
    assert binary.weight is layer.weight
    x = torch.randn(2, 6, 8, 8)
    scale = layer.weight.abs().mean((1, 2, 3))[:, None, None]
    assert torch.equal(binary(x), functional.conv2d(signs(x), signs(layer.weight), None, 2, 1) * scale)


def test_conv_transpose_scales_over_input_channels_and_taps() -> None:
    layer = nn.ConvTranspose2d(6, 4, 4, 2, 1, bias=False)
    binary = BinaryConvTranspose2d.from_float(layer)
    x = torch.randn(2, 6, 3, 5)
    scale = layer.weight.abs().mean((0, 2, 3))[:, None, None]
    expected = functional.conv_transpose2d(signs(x), signs(layer.weight), None, 2, 1) * scale
    assert torch.equal(binary(x), expected)
    assert binary(x).shape == (2, 4, 6, 10)


def test_linear_keeps_its_bias() -> None:
    layer = nn.Linear(7, 3)
    binary = BinaryLinear.from_float(layer)
    assert binary.bias is layer.bias
    x = torch.randn(2, 7)
    expected = functional.linear(signs(x), signs(layer.weight)) * layer.weight.abs().mean(1) + layer.bias
    assert torch.equal(binary(x), expected)


def test_scale_has_a_gradient() -> None:
    """d y / d w = (surrogate part) + (d alpha / d w), alpha = mean |w|: checked on one output by hand."""
    weight = nn.Parameter(torch.tensor([[0.5, -0.25]]))
    layer = BinaryLinear(weight)
    (gradient,) = torch.autograd.grad(layer(torch.ones(1, 2)), weight)
    # y = alpha * (s1 + s2) with s = (1, -1), alpha = 0.375: surrogate part alpha * 1; alpha part (s1 + s2)/2 = 0
    assert gradient.tolist() == [[0.375, 0.375]]
    (gradient,) = torch.autograd.grad(layer(torch.tensor([[1.0, -1.0]])), weight)
    # y = alpha * (s1 - s2): surrogate part (alpha, -alpha); alpha part 2 * (1/2) * sign(w) = (1, -1)
    assert gradient.tolist() == [[1.375, -1.375]]


@pytest.mark.parametrize("learnable", [False, True])
def test_threshold_is_a_parameter_or_a_buffer_of_zeros(learnable: bool) -> None:
    binary = BinaryConv2d.from_float(conv(), learnable_threshold=learnable)
    assert isinstance(binary.threshold, nn.Parameter) == learnable
    assert torch.equal(binary.threshold, torch.zeros(6))
    assert set(binary.state_dict()) == {"weight", "threshold", "bias"}


@pytest.mark.parametrize("learnable", [False, True])
@pytest.mark.parametrize(("kind", "layer"), KINDS)
def test_thresholds_begin_at_the_neutral_values_of_the_layer(
    kind: type[BinaryLayer], layer: nn.Module, learnable: bool
) -> None:
    neutral = torch.tensor([0.0, 0.5, -0.25])
    layer.register_buffer(NEUTRAL, neutral, persistent=False)
    binary = kind.from_float(layer, learnable_threshold=learnable)  # type: ignore[attr-defined]
    assert isinstance(binary, BinaryLayer)
    assert torch.equal(binary.threshold, neutral)
    assert isinstance(binary.threshold, nn.Parameter) == learnable
    neutral[1] = 2  # a copy: the float layer may be used again
    assert binary.threshold[1] == 0.5


def test_freeze_keeps_the_output_and_stops_following_the_weight() -> None:
    binary = BinaryConv2d.from_float(conv(), surrogate="ste")
    x = torch.randn(1, 6, 4, 4)
    before = binary(x)
    binary.freeze()
    assert torch.equal(binary(x), before)
    with torch.no_grad():
        binary.weight.mul_(2.0)
    assert torch.equal(binary(x), before)
    assert set(binary.state_dict()) == {"weight", "threshold", "bias"}


@pytest.mark.parametrize(
    ("layer", "shape", "op"),
    [
        (BinaryConv2d.from_float(nn.Conv2d(4, 4, 3)), (1, 4, 5, 5), "binary_conv2d"),
        (
            BinaryConvTranspose2d.from_float(nn.ConvTranspose2d(4, 4, 4, 2, 1)),
            (1, 4, 5, 5),
            "binary_conv_tran",
        ),
        (BinaryLinear.from_float(nn.Linear(4, 2), surrogate="ste"), (1, 4), "binary_linear"),
        (RPReLU(4), (1, 4, 5, 5), "rprelu"),
    ],
)
def test_a_frozen_layer_exports_as_one_node(layer: nn.Module, shape: tuple[int, ...], op: str) -> None:
    if isinstance(layer, BinaryLayer):
        layer.freeze()
    program = torch.export.export(layer.eval(), (torch.randn(shape),))
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    assert [str(node.target).startswith(f"bhpe.{op}") for node in calls] == [True]
    assert "ste" not in calls[0].args


def test_rprelu_starts_as_a_leaky_relu() -> None:
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(RPReLU(3)(x), functional.leaky_relu(x, 0.25))


def test_unknown_surrogate_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown surrogate"):
        BinaryLinear(nn.Parameter(torch.ones(1, 1)), surrogate="tanh")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), "groups=2"),
        (nn.Conv2d(4, 4, 3, dilation=2), "dilation"),
        (nn.Conv2d(4, 4, 3, padding="same"), "padding"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "reflect"),
        (nn.Conv2d(4, 4, 3, stride=(1, 2)), "both axes"),
        (nn.Conv2d(4, 4, 3, padding=1), None),
    ],
)
def test_conv_refusals(layer: nn.Conv2d, reason: str | None) -> None:
    got = BinaryConv2d.refusal(layer)
    assert got is None if reason is None else got is not None and reason in got


def test_conv_transpose_refuses_output_padding() -> None:
    reason = BinaryConvTranspose2d.refusal(nn.ConvTranspose2d(4, 4, 3, 2, output_padding=1))
    assert reason is not None
    assert "output_padding" in reason


@pytest.mark.parametrize(
    ("cin", "cout", "kind"), [(8, 8, "same"), (4, 12, "repeat"), (12, 4, "group_mean"), (8, 12, None)]
)
def test_residual_kind(cin: int, cout: int, kind: str | None) -> None:
    assert residual_kind(cin, cout) == kind


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("cin", "cout"), [(4, 4), (4, 12), (12, 4)])
def test_residual_equals_a_loop(cin: int, cout: int, stride: int) -> None:
    """Small integers: sums and divisions by 2, 3, 4 of them are compared with the same float operations."""
    x = torch.randint(-8, 8, (2, cin, 4, 6)).float() * 12
    pooled = x
    if stride == 2:
        pooled = (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4
    expected = torch.empty(2, cout, *pooled.shape[2:])
    for channel in range(cout):
        if cout >= cin:
            expected[:, channel] = pooled[:, channel % cin]
        else:
            expected[:, channel] = sum(pooled[:, channel + cout * group] for group in range(cin // cout)) / (
                cin // cout
            )
    assert torch.equal(LocalResidual(cin, cout, stride)(x), expected)


def test_residual_refuses_what_no_shape_leads_to() -> None:
    with pytest.raises(ValueError, match="from 8 to 12"):
        LocalResidual(8, 12)
    with pytest.raises(ValueError, match="stride 1 or 2"):
        LocalResidual(8, 8, 3)


def test_layers_build_on_the_meta_device() -> None:
    binary = BinaryConv2d.from_float(nn.Conv2d(4, 8, 3, device="meta"))
    assert binary.threshold.is_meta
    assert binary(torch.empty(1, 4, 8, 8, device="meta")).shape == (1, 8, 6, 6)
