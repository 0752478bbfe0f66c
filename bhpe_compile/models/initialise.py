"""A seeded initialisation that makes an untrained network behave: finite, of order one, well conditioned.

Convolutions get He initialisation (arXiv 1502.01852), batch norms scattered affines and statistics measured on
smooth pictures, and every output layer is scaled so that its output has a given spread around a sensible bias
(rotations near the identity, boxes of about a hand's size). Rotations near zero 6D vectors would amplify
rounding errors without bound; near the identity they do not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bhpe_compile.models.hand4whole import Hand4Whole

IDENTITY_6D = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


def smooth_pictures(count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Random colour clouds [count, 3, *size] in [0, 1]."""
    coarse = torch.rand(count, 3, size[0] // 32, size[1] // 32, generator=generator)
    return functional.interpolate(coarse, size, mode="bilinear", align_corners=False)


def initialise(model: Hand4Whole, seed: int) -> Hand4Whole:
    """Fill `model` in place from `seed`, leave it in eval mode, and return it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                fan = (
                    module.weight[0].numel()
                    if not isinstance(module, nn.ConvTranspose2d)
                    else module.weight.shape[0] * 4
                )
                module.weight.normal_(0, (2 / fan) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.7, 1.3, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
        pictures = smooth_pictures(2, model.preset.image, generator)
        _measure_norms(model, pictures)
        _scale_outputs(model, pictures)
    return model


def _measure_norms(model: Hand4Whole, pictures: Tensor) -> None:
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()(pictures)
    model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.num_batches_tracked.zero_()


def _output_layers(model: Hand4Whole) -> list[tuple[nn.Conv2d | nn.Linear, float, tuple[float, ...]]]:
    """Output layers in the order they feed each other, with the spread and bias they shall have."""
    found: list[tuple[nn.Module, float, tuple[float, ...]]] = [
        (model.body_position_net.conv[0], 1.0, ()),
        (model.box_net.bbox_center[0], 1.0, ()),
        *((head[2], 0.1, (1.2, 1.2)) for head in (model.box_net.lhand_size, model.box_net.rhand_size)),
        (model.box_net.face_size[2], 0.1, (1.5, 1.5)),
        (model.hand_position_net.conv[0], 1.0, ()),
        (model.hand_rotation_net.hand_pose_out[0], 0.2, IDENTITY_6D),
        (model.body_rotation_net.root_pose_out[0], 0.2, IDENTITY_6D),
        (model.body_rotation_net.body_pose_out[0], 0.2, IDENTITY_6D),
        (model.body_rotation_net.shape_out[0], 0.5, ()),
        (model.body_rotation_net.cam_out[0], 0.3, ()),
        (model.face_regressor.expr_out[0], 0.5, ()),
        (model.face_regressor.jaw_pose_out[0], 0.2, IDENTITY_6D),
    ]
    return [(m, s, b) for m, s, b in found if isinstance(m, nn.Conv2d | nn.Linear)]


def _scale_outputs(model: Hand4Whole, pictures: Tensor) -> None:
    """One pass: a hook scales each layer before its output is used, so later layers see the final values."""
    layers = _output_layers(model)

    def scale(spread: float, bias: tuple[float, ...]):  # type: ignore[no-untyped-def]
        def hook(module: nn.Conv2d | nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            factor = spread / max(float(output.std()), 1e-6)
            module.weight.mul_(factor)
            shift = output.new_zeros(module.weight.shape[0])
            if bias:
                shift += output.new_tensor(bias).repeat(shift.numel() // len(bias))
            if module.bias is not None:
                module.bias.copy_(shift)
            return output * factor + shift.view(1, -1, *[1] * (output.ndim - 2))

        return hook

    handles = [layer.register_forward_hook(scale(spread, bias)) for layer, spread, bias in layers]
    model(pictures)
    for handle in handles:
        handle.remove()
