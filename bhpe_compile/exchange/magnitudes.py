"""The largest magnitude of chosen values of a torch.fx graph, measured while it runs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

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
