"""The written formulas (`written.py`) as operators of torch, with the gradients of the float formulas.

rotation_vector   six numbers -> axis times angle
logistic          1 / (1 + e^-x)
cell_mean         the mean over the cells of a map, in integers
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, library

from bhpe_compile.networks.layers import written
from bhpe_compile.networks.layers.grids import MEAN
from bhpe_compile.networks.layers.operator import batched, gradient_of, operator
from bhpe_compile.networks.layers.written import FIRST_POWER, POWERS, Term


@dataclass(frozen=True)
class TorchArithmetic:
    """On float32 tensors."""

    device: torch.device

    def number(self, value: float) -> Any:
        return torch.tensor(value, dtype=torch.float32, device=self.device)

    def operation(self, name: str, *values: Any) -> Any:
        if name == "choose":
            return torch.where(*values)
        if name == "power":
            table = torch.from_numpy(POWERS).to(self.device)
            return table[values[0].to(torch.int64) - FIRST_POWER]
        if name == "sqrt":  # torch's own of float32 is up to an ulp off on some processors
            return torch.sqrt(values[0].double()).float()
        return getattr(torch, {"rint": "round"}.get(name, name))(*values)


@operator
def rotation_vector(x: Tensor) -> Tensor:
    """Six numbers of rotations [n, 6] -> axis times angle in radians, float32 [n, 3]."""
    by = TorchArithmetic(x.device)
    terms = [Term(one, by) for one in x.float().unbind(1)]
    return torch.stack([term.value for term in written.rotation_vector(terms)], 1)


def _rotation_vector_shape(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], 3, dtype=torch.float32)


library.register_fake("bhpe::rotation_vector", _rotation_vector_shape)
batched("rotation_vector", 1)


@operator
def logistic(x: Tensor) -> Tensor:
    """1 / (1 + e^-x), float32 of the shape of x."""
    result: Tensor = written.logistic(Term(x.float(), TorchArithmetic(x.device))).value
    return result


def _same_shape(x: Tensor) -> Tensor:
    return torch.empty_like(x, dtype=torch.float32)


library.register_fake("bhpe::logistic", _same_shape)
batched("logistic", 1)
gradient_of("logistic", lambda x: torch.sigmoid(x.float()))


@operator
def cell_mean(x: Tensor) -> Tensor:
    """x [N, C, H, W] -> the mean of rint(4096 x) over all cells, divided by 4096, float32 [N, C]."""
    total = torch.round(x.float() * MEAN).double().sum((2, 3))  # whole numbers: exact in every order
    return (total / float(MEAN * x.shape[2] * x.shape[3])).float()


def _cell_mean_shape(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[:2], dtype=torch.float32)


library.register_fake("bhpe::cell_mean", _cell_mean_shape)
batched("cell_mean", 1)
gradient_of("cell_mean", lambda x: x.float().mean((2, 3)))
