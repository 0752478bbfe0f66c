"""A torch.fx graph observed while it runs: the largest magnitude of chosen values, and what first is not finite."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx


class Watcher(fx.Interpreter):
    """Runs `graph` like its own code, and keeps the largest magnitude of the nodes named in `watched`.

    `seen` is called with the name and the value of each.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        watched: Collection[str],
        largest: dict[str, float],
        seen: Callable[[str, Tensor], None] = lambda name, value: None,
    ) -> None:
        super().__init__(graph)
        self.extra_traceback = False  # errors stay as the graph's own code raises them
        self._watched, self._largest, self._seen = watched, largest, seen

    def run_node(self, n: fx.Node) -> Any:
        """One node."""
        value = super().run_node(n)
        if n.name in self._watched and isinstance(value, Tensor):
            self._seen(n.name, value)
            array = value.numpy()  # operations of torch would be recorded
            self._largest[n.name] = max(
                self._largest.get(n.name, 0.0), -float(array.min()), float(array.max())
            )
        return value


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no floating-point number among them is NaN or infinity."""
    return all(bool(torch.isfinite(one).all()) for one in tensors if one.is_floating_point())


def first_not_finite(graph: fx.GraphModule, inputs: Mapping[str, Tensor]) -> str | None:
    """The first layer or operation of `graph` that makes NaN or infinity of finite numbers; None where none does."""
    finder = _Finder(graph)
    with torch.no_grad():
        finder.run(*inputs.values())
    return finder.found


class _Finder(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.extra_traceback = False
        self.found: str | None = None

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if self.found is None and n.op not in ("get_attr", "output") and not all_finite(_tensors(value)):
            read = [self.env[one] for one in n.all_input_nodes if one in self.env]
            if all_finite(tensor for one in read for tensor in _tensors(one)):
                self.found = f"layer {n.target}" if n.op == "call_module" else f"operation {n.name}"
        return value


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Mapping):
        value = list(value.values())
    parts = value if isinstance(value, list | tuple) else [value]
    return [one for one in parts if isinstance(one, Tensor)]
