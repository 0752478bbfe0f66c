"""What is compared of a network that its interface describes: a loss for every kind of output.

    rotation, axis-angle   mean |entry| between the matrices
    keypoints              mean |x|, |y| in sixteenths of the larger side of the grid (or of the picture), what else
                           stands beside them relative to itself
    boxes                  mean |corner| in sixteenths of the picture's larger side
    camera                 mean |difference| relative to the mean size of what is right
    coefficients           mean |difference|: they are of order 1
    logits, simcc          Kullback-Leibler divergence from the softmax that is right, in nats a row
    heat-map               squared distance relative to the square of what is right
    tensor                 squared distance relative to the variance of what is right from picture to picture: 1 is as
                           good as always answering the mean
    features               as of heat-map, a mean over places of the trunk        (distillation)

What is right is what the teacher finds, or what labels say. Codes are whole numbers without a gradient: their logits
learn, and they are left out, as all outputs of whole numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from bhpe_compile.distill.engine import Terms
from bhpe_compile.distill.samples import Sample
from bhpe_compile.distill.taps import PREFIX
from bhpe_compile.evaluate.body import axis_angle_to_matrix
from bhpe_compile.networks.interface import Interface, Output

FEATURES = "features"

WEIGHTS: dict[str, float] = {
    "axis-angle": 4.0,
    "rotation": 4.0,
    "keypoints": 1.0,
    "boxes": 1.0,
    "heat-map": 1.0,
    "simcc": 0.3,
    "camera": 1.0,
    "coefficients": 0.1,
    "logits": 0.3,
    "tensor": 1.0,
    FEATURES: 1.0,
}
"""What an output of a kind counts where the description does not say."""

CELLS = 16
"""Units across the larger side of a picture, in which an error of 1 is large."""

TARGET = "target."
"""Before an output's name, in a sample: what labels say it should be."""

Values = Mapping[str, Tensor]
Loss = Callable[[Interface, Output, Tensor, Tensor], Tensor]


def weights_of(interface: Interface, said: Mapping[str, float]) -> dict[str, float]:
    """The terms for an interface, by the names of its outputs; `said` are those that its description changes."""
    found = {output.name: WEIGHTS[output.kind] for output in interface.outputs if output.kind in LOSSES}
    return {**found, FEATURES: WEIGHTS[FEATURES], **said}


class ByKind:
    """The `Comparison` of a network that `interface` describes."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface

    def with_labels(self, found: Values, sample: Sample) -> Terms:
        """`found` against the targets in `sample`."""
        targets = {name.removeprefix(TARGET): t for name, t in sample.items() if name.startswith(TARGET)}
        return self._outputs(found, targets)

    def with_teacher(self, found: Values, taught: Values) -> Terms:
        """`found` of a student against the teacher's; places that taps return are features."""
        terms = self._outputs(found, taught)
        gaps = [relative(found[name], taught[name]) for name in taught if name.startswith(PREFIX)]
        return terms | ({FEATURES: torch.stack(gaps).mean()} if gaps else {})

    def _outputs(self, found: Values, right: Values) -> Terms:
        outputs = (one for one in self._interface.outputs if one.name in found and one.name in right)
        return {
            one.name: LOSSES[one.kind](self._interface, one, found[one.name].float(), right[one.name].float())
            for one in outputs
            if one.kind in LOSSES and found[one.name].is_floating_point()
        }


def relative(found: Tensor, right: Tensor) -> Tensor:
    """Squared distance as a part of the square of what is right."""
    right = right.float()
    return (found.float() - right).square().mean() / right.square().mean().clamp(min=1e-12)


LEAST_SPREAD = 1e-4
"""Of a variance, as a part of the mean square: an output that stays the same is compared relative to itself."""


def unexplained(found: Tensor, right: Tensor) -> Tensor:
    """Squared distance as a part of the variance over the batch."""
    square = right.square().mean()
    spread = (right - right.mean(0, keepdim=True)).square().mean() if len(right) > 1 else square
    return (found - right).square().mean() / torch.maximum(spread, LEAST_SPREAD * square).clamp(min=1e-12)


def _l1(found: Tensor, right: Tensor) -> Tensor:
    return (found - right).abs().mean()


def _axis_angle(interface: Interface, output: Output, found: Tensor, right: Tensor) -> Tensor:
    first, second = (axis_angle_to_matrix(one.reshape(-1, 3)) for one in (found, right))
    return _l1(first, second)


def _keypoints(interface: Interface, output: Output, found: Tensor, right: Tensor) -> Tensor:
    picture = interface.picture
    side = max(output.grid or (picture.size if picture is not None else (CELLS,)))
    places = _l1(found[..., :2], right[..., :2]) * (CELLS / side)
    others = found[..., 2:], right[..., 2:]
    return places + relative(*others) if others[0].numel() else places


def _boxes(interface: Interface, output: Output, found: Tensor, right: Tensor) -> Tensor:
    picture = interface.picture
    return _l1(found, right) * (CELLS / max(picture.size) if picture is not None else 1.0)


def _camera(interface: Interface, output: Output, found: Tensor, right: Tensor) -> Tensor:
    return _l1(found, right) / right.abs().mean().clamp(min=1e-6)


def _divergence(interface: Interface, output: Output, found: Tensor, right: Tensor) -> Tensor:
    ours, theirs = (functional.log_softmax(one, -1) for one in (found, right))
    rows = ours.numel() // ours.shape[-1]
    return functional.kl_div(ours, theirs, reduction="sum", log_target=True) / rows


LOSSES: dict[str, Loss] = {
    "axis-angle": _axis_angle,
    "rotation": lambda interface, output, found, right: _l1(found, right),
    "keypoints": _keypoints,
    "boxes": _boxes,
    "heat-map": lambda interface, output, found, right: relative(found, right),
    "simcc": _divergence,
    "camera": _camera,
    "coefficients": lambda interface, output, found, right: _l1(found, right),
    "logits": _divergence,
    "tensor": lambda interface, output, found, right: unexplained(found, right),
}
"""The loss of each kind of output; tensors float32, batched."""
