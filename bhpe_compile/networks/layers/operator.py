"""Registering a function as an operator of the domain `bhpe`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

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


def batched(name: str, count: int) -> None:
    """Let torch.vmap run `bhpe::<name>` once for all: its first `count` arguments and its result have the batch in
    axis 0, the others are the same for every picture. ValueError where one of those is mapped over."""

    def rule(info: Any, axes: tuple[int | None, ...], *values: Any) -> tuple[Tensor, int]:
        if any(axis is not None for axis in axes[count:]):
            raise ValueError(f"bhpe::{name} takes the same constants for all pictures")
        size, given = info.batch_size, []
        for value, axis in zip(values[:count], axes[:count], strict=True):
            every = value.expand(size, *value.shape) if axis is None else value.movedim(axis, 0)
            given.append(every.flatten(0, 1))
        result = getattr(torch.ops.bhpe, name)(*given, *values[count:])
        return result.unflatten(0, (size, -1)), 0

    library.register_vmap(f"bhpe::{name}", rule)


def gradient_of(name: str, formula: Callable[..., Tensor]) -> None:
    """Let `bhpe::<name>` have the gradient of `formula`, a function of the same arguments that torch differentiates.

    It is for operators that round: their own derivative is 0 almost everywhere.
    """

    def save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.others = [None if isinstance(one, Tensor) else one for one in inputs]
        ctx.places = [place for place, one in enumerate(inputs) if isinstance(one, Tensor)]
        ctx.save_for_backward(*(inputs[place] for place in ctx.places))

    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        arguments = list(ctx.others)
        for place, tensor in zip(ctx.places, ctx.saved_tensors, strict=True):
            arguments[place] = tensor.detach().requires_grad_(ctx.needs_input_grad[place])
        wanted = [place for place in ctx.places if ctx.needs_input_grad[place]]
        with torch.enable_grad():
            result = formula(*arguments)
        gradients: list[Tensor | None] = [None] * len(arguments)
        found = torch.autograd.grad(result, [arguments[place] for place in wanted], g, allow_unused=True)
        for place, gradient in zip(wanted, found, strict=True):
            gradients[place] = gradient
        return tuple(gradients)

    library.register_autograd(f"bhpe::{name}", backward, setup_context=save)
