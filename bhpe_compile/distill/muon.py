"""Muon: momentum whose every step is made orthogonal, for the weights of layers.

    m <- mu m + (1 - mu) g              u = mu m + (1 - mu) g           (Nesterov)
    W <- W - rate sqrt(max(1, rows / columns)) U V'    where u = U S V', reshaped to [outputs, the rest]

U V' is found by five Newton-Schulz steps X <- a X + b (X X') X + c (X X')^2 X, which bring all singular values near 1
(Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the coefficients are theirs). A
gradient's few large directions no longer drown the others: the tiny network needs about half of AdamW's pictures.
`torch.optim.Muon` takes matrices only, no filters of convolutions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """For parameters of two dimensions or more; the first of them are the rows.

    working: what the matrices are multiplied in. bfloat16 is exact enough, and quick where the hardware multiplies it;
    a CPU that does not takes ten times as long as for float32.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        working: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(parameters, {"lr": lr})
        self._working = working

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - MOMENTUM)
                matrix = parameter.grad.lerp(state["momentum"], MOMENTUM).reshape(len(parameter), -1)
                scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                change = orthogonalised(matrix, self._working).view(parameter.shape)
                parameter.sub_(change, alpha=group["lr"] * scale)


def orthogonalised(matrix: Tensor, working: torch.dtype = torch.float32) -> Tensor:
    """The nearest matrix with orthonormal rows (or columns, if these are fewer), nearly; multiplied in `working`."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(working)
    x = x / (x.norm() + 1e-7)
    for _ in range(STEPS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    result: Tensor = (x.T if tall else x).to(matrix.dtype).contiguous()
    return result
