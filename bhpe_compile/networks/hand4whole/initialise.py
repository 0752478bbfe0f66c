"""A seeded initialisation that makes an untrained network behave: finite, of order one, well conditioned.

Convolutions get He initialisation (arXiv 1502.01852) with every filter's mean removed: inputs behind a ReLU are
all positive, and their common part would drown the differences between pictures that batch norms then magnify.
Batch norms get scattered affines; the last one of a residual branch a small gain, so that the shortcut dominates.
Then one pass over textured pictures measures the statistics of every batch norm and scales every output layer, so
that its output has a given spread around a sensible bias (rotations near the identity, boxes of about a hand's
size). Rotations of 6D vectors near zero would amplify rounding errors without bound; near the identity they do not.

Both happen in the same pass: the hand and face trunks are measured on the crops the finished network will take.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.layers.resnet import BasicBlock, Bottleneck, ResNet

IDENTITY_6D = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
HAND_CELLS, FACE_CELLS = (1.2, 1.2), (1.5, 1.5)
"""Size of a hand and of a face in cells of the body's heat map (64 pixels of the picture)."""

BRANCH_GAIN = 0.2
"""Of the last batch norm in a residual branch, relative to the others."""

PICTURES = 6
"""Pictures measured: enough texture and colour for the statistics to fit other pictures too."""

SMALLEST_SPREAD = 1e-6
"""An output that does not vary at all is not scaled up by more than one over this."""

Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]


def textured_pictures(count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Random clouds [count, 3, *size] in [0, 1], each of its own colour, contrast and roughness."""
    pictures = []
    for _ in range(count):
        fall, contrast = torch.rand(2, generator=generator).tolist()
        clouds = torch.zeros(1, 3, *size)
        for octave, cell in enumerate((128, 64, 32, 16, 8, 4, 2, 1)):
            coarse = torch.rand(1, 3, size[0] // cell, size[1] // cell, generator=generator)
            fine = functional.interpolate(coarse, size, mode="bilinear", align_corners=False)
            clouds += (0.4 + 0.5 * fall) ** octave * fine
        clouds = (clouds - clouds.mean()) / clouds.std() * (0.05 + 0.25 * contrast)
        colour = torch.empty(1, 3, 1, 1).uniform_(0.2, 0.8, generator=generator)
        pictures.append((clouds + colour).clamp(0, 1))
    return torch.cat(pictures)


def initialise(model: Hand4Whole, seed: int) -> Hand4Whole:
    """Fill `model` in place from `seed`, leave it in eval mode, and return it."""
    generator = torch.Generator().manual_seed(seed)
    stems = {id(module.conv1) for module in model.modules() if isinstance(module, ResNet)}
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.7, 1.3, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
            elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                _draw(module, generator, centred=id(module) not in stems)
        for module in model.modules():
            if isinstance(module, BasicBlock | Bottleneck):
                last = module.bn2 if isinstance(module, BasicBlock) else module.bn3
                last.weight.mul_(BRANCH_GAIN)
        _calibrate(model, textured_pictures(PICTURES, model.preset.image, generator))
    return model.eval()


def _draw(
    layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, generator: torch.Generator, centred: bool
) -> None:
    """He initialisation; `centred`: the mean of every filter is 0 (a stem keeps its: pictures have a brightness)."""
    taps, inputs = layer.weight[0].numel(), tuple(range(1, layer.weight.ndim))
    if isinstance(layer, nn.ConvTranspose2d):  # of its taps, 1 in stride^2 meets a given output
        taps, inputs = layer.weight[:, 0].numel() // math.prod(layer.stride), (0,)
    layer.weight.normal_(0, math.sqrt(2 / taps), generator=generator)
    if centred:
        layer.weight.sub_(layer.weight.mean(inputs, keepdim=True))
    if layer.bias is not None:
        layer.bias.zero_()


def _outputs(model: Hand4Whole) -> tuple[tuple[nn.Sequential, float, tuple[float, ...]], ...]:
    """Heads with the spread of their last layer's output and the bias (repeated to its width) around which."""
    box, body = model.box_net, model.body_rotation_net
    return (
        (model.body_position_net.conv, 0.5, (0.0,)),
        (box.bbox_center, 0.5, (0.0,)),
        (box.lhand_size, 0.1, HAND_CELLS),
        (box.rhand_size, 0.1, HAND_CELLS),
        (box.face_size, 0.1, FACE_CELLS),
        (model.hand_position_net.conv, 0.5, (0.0,)),
        (model.hand_rotation_net.hand_pose_out, 0.2, IDENTITY_6D),
        (body.root_pose_out, 0.2, IDENTITY_6D),
        (body.body_pose_out, 0.2, IDENTITY_6D),
        (body.shape_out, 0.5, (0.0,)),
        (body.cam_out, 0.3, (0.0,)),
        (model.face_regressor.expr_out, 0.5, (0.0,)),
        (model.face_regressor.jaw_pose_out, 0.2, IDENTITY_6D),
    )


def _scale(spread: float, bias: tuple[float, ...]) -> Hook:
    """A forward hook that gives a layer its spread and bias, and returns the output it then has."""

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        weight, own_bias = layer.get_parameter("weight"), layer.get_parameter("bias")
        factor = spread / max(float(output.std()), SMALLEST_SPREAD)
        weight.mul_(factor)
        own_bias.copy_(output.new_tensor(bias).repeat(own_bias.numel() // len(bias)))
        return output * factor + own_bias.view(-1, *[1] * (output.ndim - 2))

    return hook


def _calibrate(model: Hand4Whole, pictures: Tensor) -> None:
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # running statistics = those of this batch
    handles = [head[-1].register_forward_hook(_scale(spread, bias)) for head, spread, bias in _outputs(model)]
    model.train()(pictures)
    for handle in handles:
        handle.remove()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.zero_()
