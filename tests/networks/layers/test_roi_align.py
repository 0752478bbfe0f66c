"""Crops equal ONNX RoiAlign, inside, outside and across the border, larger and smaller than the output."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from bhpe_compile.networks.layers import roi_align as _  # noqa: F401

BOXES = {
    "inside": [[20.0, 30, 90, 110], [10.5, 5.25, 60, 100]],
    "across": [[-72.5, -8.5, 148.5, 212.5], [-200.0, 50, 300, 400]],
    "small": [[50.0, 50, 50.2, 50.1], [30, 40, 31, 49]],
    "outside": [[-300.0, -300, -100, -100], [127, 95, 500, 600]],
}


@pytest.mark.parametrize("case", BOXES)
@pytest.mark.parametrize("size", [(16, 12), (5, 7)])
def test_equals_onnx(case: str, size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    boxes, index = torch.tensor(BOXES[case]), torch.tensor([1, 0])
    node = helper.make_node(
        "RoiAlign",
        ["x", "b", "i"],
        ["y"],
        output_height=size[0],
        output_width=size[1],
        sampling_ratio=0,
        mode="avg",
        coordinate_transformation_mode="output_half_pixel",
    )
    infos = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape),
        helper.make_tensor_value_info("b", TensorProto.FLOAT, boxes.shape),
        helper.make_tensor_value_info("i", TensorProto.INT64, index.shape),
    ]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 3, *size))
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(
        helper.make_graph([node], "g", infos, [out]), opset_imports=opset, ir_version=10
    )
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (want,) = session.run(None, {"x": x.numpy(), "b": boxes.numpy(), "i": index.numpy()})
    got = torch.ops.bhpe.roi_align(x, boxes, index, *size).numpy()
    # coordinates up to 128 are rounded to 8e-6 in another order, and neighbouring pixels differ by up to 1
    np.testing.assert_allclose(got, want, atol=2e-5, rtol=0)
