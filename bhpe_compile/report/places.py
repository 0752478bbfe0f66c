"""Where the layers of a network belong: what each is for, and the stage that a cost is told by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from bhpe_compile.networks.network import OTHER, Network, Role

if TYPE_CHECKING:
    from torch import fx


@dataclass(frozen=True)
class Places:
    """Roles by path, as the graph's structure and the description say, and the description that names stages."""

    roles: Mapping[str, Role] = field(default_factory=dict)
    network: Network | None = None

    @classmethod
    def of(cls, graph: fx.GraphModule, network: Network | None) -> Self:
        """Of a traced graph, binary or not; `network` None: nobody described it."""
        from bhpe_compile.passes.binarize.roles import (
            ROLES,  # imports torch, which not every compilation needs
        )

        return cls(graph.meta.get(ROLES, {}), network)

    def role(self, layer: str) -> Role:
        """stem, core, shortcut, branch or head; the second call of a layer is `PATH#1`."""
        return self.roles.get(layer.partition("#")[0], "head")

    def stage(self, layer: str) -> str:
        """The part of the network it belongs to, "other" where the description has none."""
        return OTHER if self.network is None else self.network.stage_of(layer.partition("#")[0])


NOWHERE = Places()
"""Of a graph of which nothing is known."""
