"""Outputs of the network as plain lists, for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.errors import InputError


def check_finite(outputs: Mapping[str, NDArray[Any]]) -> None:
    """InputError that names an output with NaN or infinity: no pose is read from such numbers."""
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"the compiled model reports: NaN or infinity in the output {name}")


def to_lists(outputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Every output as nested lists, without the batch axis of 1; the shortest decimals that keep float32 exact.

    InputError when an output is not a finite number, which JSON cannot hold and no sound network returns.
    """
    return {name: _list(name, array) for name, array in outputs.items()}


def _list(name: str, array: NDArray[Any]) -> Any:
    if array.ndim > 1 and array.shape[0] == 1:
        array = array[0]
    if array.dtype.kind != "f":
        return array.tolist()
    if not np.isfinite(array).all():
        raise InputError(
            f"the network returned {name} with values that are no numbers: its weights are broken"
        )
    shortest = [float(str(value)) for value in array.ravel()]
    return np.array(shortest, np.float64).reshape(array.shape).tolist()
