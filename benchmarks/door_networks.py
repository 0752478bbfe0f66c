"""The networks of `doors.py` as ONNX files: our own modules with seeded weights, exported once.

RTMPose and ResNet-50 are the modules of this project; the MobileNetV2 (arXiv 1801.04381) is written here. A seed gives
the weights; norms are settled on one batch, so that every layer works in a sensible range, as in a trained network.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bhpe_compile.networks.layers.resnet import ResNet
from bhpe_compile.networks.layers.trunk import CSPNEXT, RESNET50
from bhpe_compile.networks.rtmpose.module import RTMPose

Array = NDArray[np.float32]

CALIBRATION = 4
"""Inputs that both sides are calibrated on; the first is the one they are timed on."""


class Inverted(nn.Module):
    """1x1 wide, depthwise 3x3, 1x1 narrow; what came in is added where shapes allow it."""

    def __init__(self, inner: int, outer: int, stride: int, wide: int) -> None:
        super().__init__()
        hidden = inner * wide
        layers: list[nn.Module] = []
        if wide != 1:
            layers += [nn.Conv2d(inner, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()]
        layers += [
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            *(nn.BatchNorm2d(hidden), nn.ReLU6()),
            *(nn.Conv2d(hidden, outer, 1, bias=False), nn.BatchNorm2d(outer)),
        ]
        self.layers = nn.Sequential(*layers)
        self.adds = stride == 1 and inner == outer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.adds else y


class MobileNetV2(nn.Module):
    """Picture [N, 3, 224, 224] -> logits [N, 1000]."""

    STAGES = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    """Widening, channels, blocks, stride of the first."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()]
        channels = 32
        for wide, outer, blocks, stride in self.STAGES:
            for index in range(blocks):
                layers.append(Inverted(channels, outer, stride if index == 0 else 1, wide))
                channels = outer
        layers += [nn.Conv2d(channels, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits


@dataclass(frozen=True)
class Door:
    """A network by its ONNX file, and inputs it is calibrated and timed on."""

    name: str
    path: Path
    input: str
    examples: tuple[Array, ...]

    @property
    def example(self) -> Array:
        """What it is timed on."""
        return self.examples[0]


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, int]]] = {
    "mobilenetv2": (MobileNetV2, (224, 224)),
    "rtmpose-m": (lambda: RTMPose(CSPNEXT["m"]), (256, 192)),
    "rtmpose-t": (lambda: RTMPose(CSPNEXT["t"]), (256, 192)),
    "resnet50": (lambda: ResNet(RESNET50), (256, 192)),
}
"""Modules and rows and columns of their input."""

REAL = {
    "hand_landmark_lite": (1, 3, 224, 224),
    "face_landmark": (1, 3, 192, 192),
    "face_detection_short_range": (1, 3, 128, 128),
    "mtcnn_onet": (1, 48, 48, 3),
    "ppocrv4_det": (1, 3, 320, 320),
}
"""Pretrained networks that are not in this repository, with the shapes they are run at."""


LEAST = 13
"""The op set from which on ONNX Runtime quantizes weights by channel."""


def clouds(shape: tuple[int, ...], seed: int) -> Array:
    """A smooth picture of about zero mean and deviation one, [N, C, H, W] or [N, H, W, C]."""
    generator = torch.Generator().manual_seed(seed)
    last = shape[-1] == 3
    batch, channels, height, width = (shape[0], shape[3], *shape[1:3]) if last else shape
    total = torch.zeros(batch, channels, height, width)
    for cells in (2, 5, 11, 29):
        rough = torch.randn(batch, channels, cells, cells, generator=generator)
        total += nn.functional.interpolate(rough, (height, width), mode="bilinear") / 2
    total += torch.randn(total.shape, generator=generator) / 8
    return np.ascontiguousarray((total.permute(0, 2, 3, 1) if last else total).numpy(), np.float32)


def inputs(name: str, seed: int) -> Array:
    """Clouds as a network takes them."""
    if name in MODULES:
        return clouds((1, 3, *MODULES[name][1]), seed)
    low, high = (
        (-1.0, 1.0) if name in ("face_detection_short_range", "mtcnn_onet", "ppocrv4_det") else (0.0, 1.0)
    )
    middle, half = (low + high) / 2, (high - low) / 2
    return np.clip(middle + half * clouds(REAL[name], seed) / 2, low, high).astype(np.float32)


def settle(module: nn.Module, batch: Tensor) -> None:
    """Give norms the means and deviations of what they meet: one pass in training mode, each norm before the next."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    module.train()
    with torch.no_grad():
        module(batch)
    module.eval()


def export(name: str, folder: Path) -> Door:
    """The ONNX file of one of MODULES."""
    make, _ = MODULES[name]
    torch.manual_seed(0)
    module = make()
    examples = tuple(inputs(name, seed) for seed in range(CALIBRATION))
    settle(module, torch.from_numpy(np.concatenate(examples)))
    path = folder / f"{name}.onnx"
    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        torch.onnx.export(
            module,
            (torch.from_numpy(examples[0]),),
            str(path),
            input_names=["image"],
            opset_version=17,
            dynamo=False,
        )
    return Door(name, path, "image", examples)


def real(name: str, models: Path, folder: Path) -> Door:
    """A pretrained network of the folder `models`, its sizes fixed."""
    shape = REAL[name]
    model = onnx.load(models / f"{name}.onnx")
    (port,) = (
        value for value in model.graph.input if value.name not in {i.name for i in model.graph.initializer}
    )
    for dim, extent in zip(port.type.tensor_type.shape.dim, shape, strict=True):
        dim.ClearField("dim_param")
        dim.dim_value = extent
    if model.opset_import[0].version < LEAST:
        model = onnx.version_converter.convert_version(model, LEAST)
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    model = onnx.shape_inference.infer_shapes(model)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return Door(name, path, port.name, tuple(inputs(name, seed) for seed in range(CALIBRATION)))
