"""What the exporter leaves behind: names, shapes, order, and nothing else."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from bhpe_compile.exchange.export import export, to_onnx
from bhpe_compile.exchange.export import run as run_graph
from bhpe_compile.exchange.nodes import array_of, integer, layer_of
from bhpe_compile.networks.layers.binary import BinaryConv2d, BinaryConvTranspose2d, BinaryLinear, RPReLU
from bhpe_compile.passes.binarize import freeze, trace
from tests.passes.fold.graphs import node_named, op_types, run
from tests.passes.fold.graphs import text as as_bytes


class Small(nn.Module):
    """One layer of each kind, two outputs whose order is not alphabetic."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.block = nn.Sequential(BinaryConv2d(normal(8, 4, 3, 3), normal(8), 1, 1, True), RPReLU(8))
        self.again = RPReLU(8)
        self.up = BinaryConvTranspose2d(normal(8, 4, 4, 4), None, 2, 1)
        self.row = BinaryLinear(normal(6, 4), normal(6))
        self.row_activation = RPReLU(6)
        self.last = nn.Linear(6, 2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.up(self.again(self.block(self.norm(self.stem(image)))))
        boxes = x.new_tensor([[1.0, 1.0, 9.0, 7.0]])
        crop = torch.ops.bhpe.crop(x, boxes, 4, 3)
        row = self.last(self.row_activation(self.row(crop.mean((2, 3)))))
        return {"rows": row, "crop": crop}


@pytest.fixture(scope="module")
def small() -> fx.GraphModule:
    return freeze(trace(Small().eval()))


@pytest.fixture(scope="module")
def picture() -> Tensor:
    return torch.rand(1, 3, 12, 10, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def model(small: fx.GraphModule, picture: Tensor) -> ir.Model:
    return export(small, {"image": picture})


def test_layers_keep_their_paths(model: ir.Model) -> None:
    layers = {
        "stem": "Conv",
        "block.0": "BinaryConv2d",
        "up": "BinaryConvTranspose2d",
        "row": "BinaryLinear",
        "last": "Gemm",
    }
    assert {name: node_named(model, name).op_type for name in layers} == layers


def test_layers_are_told_from_formulas() -> None:
    """By the parameter they read, whatever it is called."""

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.ones(4, 3, 1, 1))
            self.register_buffer("weight", torch.ones(4, 3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return functional.conv2d(x, self.kernel) + functional.conv2d(x, self.get_buffer("weight"))

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Named()

        def forward(self, image: Tensor) -> dict[str, Tensor]:
            return {"y": self.inner(self.inner(image)[:, :3])}

    graph = freeze(trace(Outer().eval()))
    ran = run_graph(graph, {"image": torch.ones(1, 3, 4, 4)})
    exported = [to_onnx(ran)]
    ran.recorder.refusal = "for the test"
    exported.append(to_onnx(ran))
    for found in exported:
        layers = [(node.name, layer_of(node)) for node in found.graph if node.op_type == "Conv"]
        assert layers[::2] == [("inner", "inner"), ("inner#1", "inner")]
        assert [layer for _, layer in layers[1::2]] == [None, None]


def test_inputs_and_outputs_keep_names_and_order(model: ir.Model) -> None:
    assert [(i.name, tuple(i.shape or ())) for i in model.graph.inputs] == [("image", (1, 3, 12, 10))]
    assert [o.name for o in model.graph.outputs] == ["rows", "crop"]
    assert (model.ir_version, dict(model.opset_imports)["bhpe"], dict(model.opset_imports)[""]) == (10, 1, 18)


def test_batch_norms_are_left_to_the_folds(model: ir.Model, small: fx.GraphModule) -> None:
    """Folded by the exporter they would change weights that must stay float16."""
    assert "BatchNormalization" in op_types(model)
    weight = array_of(node_named(model, "stem").inputs[1])
    np.testing.assert_array_equal(weight, small.get_parameter("stem.weight").numpy())


def test_activations_broadcast_without_reshape(model: ir.Model) -> None:
    shapes = [
        tuple(value.shape or ())
        for node in model.graph
        if node.op_type == "RPReLU"
        for value in node.inputs[1:]
        if value is not None
    ]
    assert shapes == [(8, 1, 1)] * 6 + [(6,)] * 3


def test_a_crop_is_one_node(model: ir.Model) -> None:
    node = next(node for node in model.graph if node.op_type == "Crop")
    assert (integer(node, "height"), integer(node, "width")) == (4, 3)


def test_every_value_has_a_shape(model: ir.Model) -> None:
    shapes = [value.shape for node in model.graph for value in node.outputs]
    assert all(shape is not None and all(isinstance(d, int) for d in shape) for shape in shapes)


def test_nothing_else_is_in_the_file(model: ir.Model) -> None:
    """No stack traces, no paths of this machine, no weights nobody reads."""
    assert not model.metadata_props
    assert not model.doc_string
    for node in model.graph:
        assert not node.metadata_props
        assert not node.doc_string
    assert b".py" not in as_bytes(model)
    assert all(value.uses() for value in model.graph.initializers.values())


def test_the_same_graph_gives_the_same_bytes(small: fx.GraphModule, picture: Tensor, model: ir.Model) -> None:
    assert as_bytes(export(small, {"image": picture})) == as_bytes(model)


def test_the_exporter_says_nothing(
    small: fx.GraphModule, picture: Tensor, capfd: pytest.CaptureFixture[str]
) -> None:
    export(small, {"image": picture})
    assert capfd.readouterr() == ("", "")


def test_the_graph_is_not_changed(small: fx.GraphModule, picture: Tensor) -> None:
    before = small.code
    export(small, {"image": picture})
    assert small.code == before


def test_onnx_runtime_computes_the_same(model: ir.Model, small: fx.GraphModule, picture: Tensor) -> None:
    got = run(model, picture.numpy())
    with torch.no_grad():
        want = small(picture)
    # float32 convolutions of 27 and crops of 16 samples, in different orders
    for name, value in zip(("rows", "crop"), got, strict=True):
        np.testing.assert_allclose(value, want[name].numpy(), rtol=1e-5, atol=1e-4)
