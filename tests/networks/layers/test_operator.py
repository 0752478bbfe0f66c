"""Operators under torch.vmap: one run for a whole batch gives what one run a picture gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bhpe_compile.networks.layers import crop, heat_maps, ops, sample_points, written_torch  # noqa: F401

PICTURES = 3
MAP, ROWS = (2, 4, 5, 6), (2, 4)
WEIGHT = torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(0))
FOUR = (torch.tensor([0.1, -0.2, 0.3, -0.4]),)
CALLS: dict[str, tuple[tuple[tuple[int, ...], ...], tuple[Any, ...]]] = {
    "binary_conv2d": ((MAP,), (*FOUR, WEIGHT, *FOUR, *FOUR, 2, 1)),
    "binary_conv_transpose2d": ((MAP,), (*FOUR, WEIGHT, *FOUR, *FOUR, 2, 1)),
    "binary_linear": ((ROWS,), (*FOUR, WEIGHT[:, :, 0, 0], *FOUR, *FOUR)),
    "cell_mean": ((MAP,), ()),
    "crop": (((1, 3, 20, 20), (1, 4)), (4, 4)),
    "heat_map": ((MAP,), (2,)),
    "logistic": ((ROWS,), ()),
    "rotation_vector": (((3, 6),), ()),
    "rprelu": ((MAP,), FOUR * 3),
    "sample_points": ((MAP, (2, 7, 2)), ()),
    "soft_argmax": ((MAP,), (2, 3)),
}
"""Operator -> shapes of what differs from picture to picture, and the constants behind it."""


@pytest.mark.parametrize("name", CALLS)
def test_a_batch_is_one_run(name: str) -> None:
    shapes, constants = CALLS[name]
    operator = getattr(torch.ops.bhpe, name)
    draw = torch.Generator().manual_seed(1)
    given = [torch.rand(PICTURES, *shape, generator=draw) * 5 for shape in shapes]
    together = torch.func.vmap(lambda *one: operator(*one, *constants))(*given)
    for picture, found in enumerate(together):
        assert torch.equal(found, operator(*(one[picture] for one in given), *constants))


def test_what_is_the_same_for_all_pictures_may_stand_beside() -> None:
    x, points = torch.rand(MAP), torch.rand(PICTURES, 2, 7, 2)
    together = torch.func.vmap(lambda one: torch.ops.bhpe.sample_points(x, one))(points)
    assert torch.equal(together[1], torch.ops.bhpe.sample_points(x, points[1]))


def test_constants_of_every_picture_are_refused() -> None:
    x, slopes = torch.rand(PICTURES, *MAP), torch.rand(PICTURES, 4)
    with pytest.raises(ValueError, match="bhpe::rprelu takes the same constants for all pictures"):
        torch.func.vmap(lambda one, beta: torch.ops.bhpe.rprelu(one, *FOUR, beta, *FOUR))(x, slopes)
