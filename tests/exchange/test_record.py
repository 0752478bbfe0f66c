"""Every operation of the table against torch, what is refused, and torch's own exporter beside ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from bhpe_compile.exchange import export as module
from bhpe_compile.exchange.export import export, to_onnx
from bhpe_compile.exchange.nodes import array_of
from bhpe_compile.exchange.operations import TABLE
from bhpe_compile.exchange.record import Recorder
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY
from bhpe_compile.passes.binarize import BinarizeOptions, binarize, freeze, get_scheme, trace
from tests.passes.fold.graphs import node_named, op_types, run

Network = Callable[[Tensor], Tensor]


class Function(nn.Module):
    """A function as a network with the output `y`, with a few parameters to use."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)

        def normal(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, generator=generator), requires_grad=False)

        self.function = function
        self.square, self.kernel, self.vector = normal(4, 4), normal(4, 4, 3, 3), normal(4)
        self.norm = nn.BatchNorm2d(4).eval()
        self.norm.running_mean, self.norm.running_var = normal(4), normal(4).abs()

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"y": self.function(image, self)}


def graph_of(function: Callable[..., Tensor]) -> fx.GraphModule:
    return fx.symbolic_trace(Function(function)).eval()


def picture(*shape: int) -> Tensor:
    return torch.randn(shape or (2, 4, 6, 8), generator=torch.Generator().manual_seed(0))


def boxes(x: Tensor) -> Tensor:
    return x.new_tensor([[1.0, 1.0, 5.0, 4.0], [0.0, 0.0, 3.5, 5.5]])


CASES: dict[str, Callable[[Tensor, Function], Tensor]] = {
    "aten._prelu_kernel.default": lambda x, m: functional.prelu(x, m.vector),
    "aten._softmax.default": lambda x, m: functional.softmax(x, -1),
    "aten._unsafe_view.default": lambda x, m: torch.ops.aten._unsafe_view(x, [2, 4, 48]),
    "aten.abs.default": lambda x, m: x.abs(),
    "aten.add.Tensor": lambda x, m: x + 3 + x.new_tensor([1, 2], dtype=torch.int64)[:, None, None, None],
    "aten.addmm.default": lambda x, m: functional.linear(x.mean((2, 3)), m.square, m.vector),
    "aten.alias.default": lambda x, m: torch.ops.aten.alias(x) * 2,
    "aten.amax.default": lambda x, m: x.amax((2, 3), keepdim=True),
    "aten.amin.default": lambda x, m: x.amin((1,)),
    "aten.argmax.default": lambda x, m: x.argmax(1),
    "aten.atan.default": lambda x, m: torch.atan(x),
    "aten.avg_pool2d.default": lambda x, m: functional.avg_pool2d(x, 3, 2, 1),
    "aten.bmm.default": lambda x, m: torch.matmul(x, x.transpose(2, 3)) @ x,
    "aten.cat.default": lambda x, m: torch.cat((x, x * 2), -3),
    "aten.clamp.default": lambda x, m: torch.clamp(x, min=-0.5, max=0.25),
    "aten.clamp_min.default": lambda x, m: torch.ops.aten.clamp_min(x, 0.1),
    "aten.clone.default": lambda x, m: x.transpose(1, 2).contiguous() + 1,
    "aten.constant_pad_nd.default": lambda x, m: functional.pad(x, (1, 2, 0, 3), "constant", -2.5),
    "aten.convolution.default": lambda x, m: (
        functional.conv2d(x, m.kernel, m.vector, 2, (1, 0)).mean((2, 3))[:, :, None, None]
        + functional.conv_transpose2d(x, m.kernel, None, 2, 1, 1)
    ),
    "aten.detach.default": lambda x, m: x.detach() + 1,
    "aten.div.Tensor": lambda x, m: x / 7 / m.vector[:, None, None],
    "aten.elu.default": lambda x, m: functional.elu(x, 0.7),
    "aten.erf.default": lambda x, m: torch.erf(x),
    "aten.exp.default": lambda x, m: torch.exp(x),
    "aten.expand.default": lambda x, m: x[:, :1].expand(2, 3, 6, 8) + 0,
    "aten.flip.default": lambda x, m: torch.flip(x, [1, 3]),
    "aten.gelu.default": lambda x, m: functional.gelu(x * 3),
    "aten.gt.Scalar": lambda x, m: torch.where(x > 0.5, x, x * 2),
    "aten.hardswish.default": lambda x, m: functional.hardswish(x * 4),
    "aten.hardtanh.default": lambda x, m: functional.hardtanh(x),
    "aten.leaky_relu.default": lambda x, m: functional.leaky_relu(x, 0.1),
    "aten.linalg_cross.default": lambda x, m: torch.linalg.cross(x[:, :3], x[:, 1:4] + 1, dim=1),
    "aten.linalg_vector_norm.default": lambda x, m: functional.normalize(x, dim=1),
    "aten.log.default": lambda x, m: torch.log(x * x + 1),
    "aten.lt.Scalar": lambda x, m: torch.where(x < 0, -x, x),
    "aten.max_pool2d_with_indices.default": lambda x, m: functional.max_pool2d(x, 3, 2, 1),
    "aten.maximum.default": lambda x, m: torch.maximum(x, m.vector[:, None, None]),
    "aten.mean.dim": lambda x, m: x.mean((1, 3)),
    "aten.minimum.default": lambda x, m: torch.minimum(x, m.vector[:, None, None]),
    "aten.mm.default": lambda x, m: functional.linear(x.mean((2, 3)), m.square) + x.mean((2, 3)) @ m.square,
    "aten.mul.Tensor": lambda x, m: 1.7 * x * x,
    "aten.native_batch_norm.default": lambda x, m: m.norm(x),
    "aten.native_layer_norm.default": lambda x, m: functional.layer_norm(
        x.transpose(1, 3) * 5, (4,), m.vector, m.vector, 1e-3
    ),
    "aten.neg.default": lambda x, m: -x,
    "aten.permute.default": lambda x, m: x.permute(0, 2, -1, 1),
    "aten.pow.Tensor_Scalar": lambda x, m: x**3,
    "aten.relu.default": lambda x, m: torch.relu(x),
    "aten.round.default": lambda x, m: torch.round(x * 2 + 0.5),
    "aten.rsub.Scalar": lambda x, m: 3 - x,
    "aten.select.int": lambda x, m: x[:, -1],
    "aten.sigmoid.default": lambda x, m: torch.sigmoid(x),
    "aten.silu.default": lambda x, m: functional.silu(x * 3),
    "aten.slice.Tensor": lambda x, m: x[:, 1:, -3:, 1:7:2],
    "aten.split.Tensor": lambda x, m: torch.split(x, 5, -1)[1] + torch.split(x, 5, -1)[0][..., :3],
    "aten.sqrt.default": lambda x, m: torch.sqrt(x * x),
    "aten.stack.default": lambda x, m: torch.stack((x, x + 1), -1),
    "aten.sub.Tensor": lambda x, m: x - 1 - m.vector[:, None, None],
    "aten.sum.dim_IntList": lambda x, m: x.sum((-1,), keepdim=True),
    "aten.tanh.default": lambda x, m: torch.tanh(x),
    "aten.transpose.int": lambda x, m: x.transpose(1, -1),
    "aten.unsqueeze.default": lambda x, m: x[:, None].unsqueeze(-1),
    "aten.upsample_bilinear2d.default": lambda x, m: (
        functional.interpolate(x, size=(9, 4), mode="bilinear", align_corners=True)
        + functional.interpolate(x, size=(9, 4), mode="bilinear")
    ),
    "aten.upsample_nearest2d.default": lambda x, m: functional.interpolate(x, scale_factor=(2.0, 3.0)),
    "aten.view.default": lambda x, m: x.reshape(2, -1),
    "aten.where.self": lambda x, m: torch.where(x > 0, torch.full_like(x, 2.0), x),
    "bhpe.binary_conv2d.default": lambda x, m: torch.ops.bhpe.binary_conv2d(
        x, m.vector, m.kernel, m.vector, m.vector, 2, 1
    ),
    "bhpe.binary_conv_transpose2d.default": lambda x, m: torch.ops.bhpe.binary_conv_transpose2d(
        x, m.vector, m.kernel, m.vector, m.vector, 2, 1
    ),
    "bhpe.binary_linear.default": lambda x, m: torch.ops.bhpe.binary_linear(
        x[:, :, 0, 0], m.vector, m.square, m.vector, m.vector
    ),
    "bhpe.cell_mean.default": lambda x, m: torch.ops.bhpe.cell_mean(x),
    "bhpe.crop.default": lambda x, m: torch.ops.bhpe.crop(x.abs(), boxes(x), 3, 2),
    "bhpe.heat_map.default": lambda x, m: torch.ops.bhpe.heat_map(x * 3, 2),
    "bhpe.logistic.default": lambda x, m: torch.ops.bhpe.logistic(x * 3),
    "bhpe.rotation_vector.default": lambda x, m: torch.ops.bhpe.rotation_vector(x[:, 0, :, 0]),
    "bhpe.rprelu.default": lambda x, m: torch.ops.bhpe.rprelu(x, m.vector, m.vector, m.vector),
    "bhpe.sample_points.default": lambda x, m: torch.ops.bhpe.sample_points(x, x[:, 0, :3, :2].abs()),
    "bhpe.soft_argmax.default": lambda x, m: torch.ops.bhpe.soft_argmax(x * 3, 2, 3),
}


def test_every_operation_has_a_case() -> None:
    assert sorted(CASES) == sorted(TABLE)


@pytest.mark.parametrize("name", CASES)
def test_onnx_runtime_computes_what_torch_does(name: str) -> None:
    ran = module.run(graph_of(CASES[name]), {"image": picture()})
    assert ran.recorder.refusal is None
    got = run(to_onnx(ran), picture().numpy())[0]
    # float32, sums of up to 36 products in another order
    np.testing.assert_allclose(got, ran.outputs["y"].numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x, m: torch.sin(x), "aten.sin.default: it has no entry"),
        (lambda x, m: (x + 1).relu_(), "aten.relu_.default: it changes its argument"),
        (lambda x, m: torch.add(x, x, alpha=2), "aten.add.Tensor"),
        (lambda x, m: functional.max_pool2d(x, 2, 2, 0, 2), "aten.max_pool2d_with_indices"),
        (lambda x, m: functional.avg_pool2d(x, 3, 2, 1, False, False), "aten.avg_pool2d"),
        (
            lambda x, m: functional.grid_sample(x, x[:, :, :, :2], align_corners=True),
            "aten.grid_sampler_2d.default: it has no entry",
        ),
        (lambda x, m: torch.linalg.vector_norm(x, 1, 1), "order 1"),
        (lambda x, m: functional.gelu(x, approximate="tanh"), "approximate=tanh"),
        (lambda x, m: functional.layer_norm(x, (8,)), "no affine"),
        (lambda x, m: functional.interpolate(x, size=(9, 12)), "from [6, 8] to [9, 12] pixels"),
    ],
)
def test_anything_else_is_refused_by_name_and_left_to_torch(
    function: Callable[..., Tensor], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    ran = module.run(graph_of(function), {"image": picture()})
    assert reason in str(ran.recorder.refusal)
    got = run(to_onnx(ran), picture().numpy())[0]
    np.testing.assert_allclose(got, ran.outputs["y"].numpy(), rtol=1e-5, atol=1e-5)
    assert capfd.readouterr() == ("", "")


def test_the_first_refusal_is_kept_and_the_run_goes_on() -> None:
    ran = module.run(graph_of(lambda x, m: torch.erf(torch.erfc(x)) + 1), {"image": picture()})
    assert str(ran.recorder.refusal).startswith("aten.erfc")
    torch.testing.assert_close(ran.outputs["y"], torch.erf(torch.erfc(picture())) + 1)


@pytest.mark.parametrize("error", [TypeError, KeyError])
def test_a_defect_of_the_table_is_not_taken_for_an_unknown_operation(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(r: Recorder, y: Tensor, x: Tensor) -> None:
        raise error("broken")

    monkeypatch.setitem(TABLE, "aten.neg.default", broken)
    with pytest.raises(error, match="broken"):
        module.run(graph_of(lambda x, m: -x), {"image": picture()})


def test_layers_read_their_own_weight_under_its_name() -> None:
    """Also through the transposition in front of a matrix product."""
    graph = graph_of(lambda x, m: functional.linear(x.mean((2, 3)), m.square, m.vector))
    model = export(graph, {"image": picture()})
    node = next(node for node in model.graph if node.op_type == "Gemm")
    assert [value.name for value in node.inputs[1:] if value is not None] == ["square", "vector"]
    np.testing.assert_array_equal(array_of(node.inputs[1]), graph.get_parameter("square").numpy())


def test_what_does_not_depend_on_the_input_is_a_constant() -> None:
    model = export(graph_of(lambda x, m: x + (m.vector * 2 + torch.arange(4)).sum()), {"image": picture()})
    assert op_types(model) == ["Add"]


class Twice(nn.Module):
    """One value under two names, the input itself, and a constant."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        y = image * 2
        return {"a": y, "b": y, "image_again": image, "constant": torch.ones(3) * 2}


def test_outputs_may_be_the_same_the_input_or_constant() -> None:
    model = export(fx.symbolic_trace(Twice()), {"image": picture()})
    assert [value.name for value in model.graph.outputs] == ["a", "b", "image_again", "constant"]
    image = picture().numpy()
    for got, want in zip(run(model, image), (image * 2, image * 2, image, np.full(3, 2)), strict=True):
        np.testing.assert_array_equal(got, want)


def shapes(model: ir.Model) -> list[tuple[str, Sequence[object]]]:
    return [(node.op_type, [value.shape for value in node.outputs if value.shape]) for node in model.graph]


@pytest.mark.parametrize("scheme", ["bidrn", "bnn", "reactnet", None])
def test_torchs_exporter_gives_the_same_network(scheme: str | None) -> None:
    """The same operations in the same order, layers of the same names, and the same outputs bit by bit."""
    network = Hand4Whole(TINY).eval()
    initialise(network, 3)
    graph = trace(network)
    if scheme is not None:
        graph, _ = binarize(network, BinarizeOptions(scheme=get_scheme(scheme)))
    image = torch.rand((1, 3, *TINY.image), generator=torch.Generator().manual_seed(0))
    ran = module.run(freeze(graph), {"image": image})
    ours = to_onnx(ran)
    ran.recorder.refusal = "for the test"
    theirs = to_onnx(replace(ran))
    assert op_types(ours) == op_types(theirs)
    layers = [n.name for n in ours.graph if n.op_type in ("Conv", "Gemm") or n.domain == "bhpe"]
    named = [name for name in layers if name and "." in name and not name.startswith(("Gemm", "RPReLU"))]
    assert all(node_named(theirs, name) for name in named)
    for got, want in zip(run(ours, image.numpy()), run(theirs, image.numpy()), strict=True):
        np.testing.assert_array_equal(got, want)
