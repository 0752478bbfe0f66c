"""Does a module do what its network's description says? Asked where it runs for the first time.

Descriptions come from other packages and from files; one that does not fit is refused here, before anything is made
of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.errors import InputError
from bhpe_compile.networks.interface import Interface

if TYPE_CHECKING:
    from torch import Tensor, fx


def check_finite_inputs(inputs: Mapping[str, NDArray[Any]]) -> None:
    """InputError for an input with NaN or infinity."""
    for name, array in inputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"input {name}: has NaN or infinity; give finite numbers")


def check_outputs(interface: Interface, outputs: Mapping[str, Tensor]) -> None:
    """InputError for an output of the description that is not there, or has another shape.

    What the description leaves out is a plain tensor.
    """
    for output in interface.outputs:
        if output.name not in outputs:
            raise InputError(
                f"network {interface.network}: its description has an output {output.name}, "
                f"and its module returns {', '.join(outputs)}"
            )
        shape = tuple(outputs[output.name].shape)
        if output.shape and output.shape != shape:
            raise InputError(
                f"network {interface.network}: output {output.name} is {list(output.shape)} in the description, "
                f"and the module returns {list(shape)}"
            )


def refused_inputs(
    interface: Interface, graph: fx.GraphModule, inputs: Mapping[str, Any], error: Exception
) -> InputError | None:
    """The error that says that `graph` does not take the inputs of the description; None where it does take them.

    error: what torch said while `graph` was run and written down; whether the network or the writing failed is seen
    by running it once more alone.
    """
    import torch

    try:
        with torch.no_grad():
            graph.forward(*inputs.values())
    except (RuntimeError, TypeError):
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in inputs.items())
        says = str(error).strip().partition("\n")[0]
        return InputError(
            f"network {interface.network}: its module does not take the inputs of its description ({shapes}): {says}"
        )
    return None
