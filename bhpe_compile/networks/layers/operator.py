"""Registering a function as an operator of the domain `bhpe`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import torch
from torch import Tensor, library

F = TypeVar("F", bound=Callable[..., Tensor])


def operator(function: F) -> F:
    """Make `function` the operator `bhpe::<its name>`, which is returned: one node in every graph, mutating nothing.

    This is torch's `custom_op` without its wrapper, whose first call imports torch's compiler.
    """
    name = f"bhpe::{function.__name__}"
    schema = library.infer_schema(function, mutates_args=())
    library.define(name, schema, tags=torch.Tag.pt2_compliant_tag)
    library.impl(name, "default", function)
    return cast(F, getattr(torch.ops.bhpe, function.__name__))
