"""What every door gives the compiler: a network in memory, and what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from bhpe_compile.networks.interface import Interface
from bhpe_compile.networks.network import Network


@dataclass(frozen=True)
class Imported:
    """A network in memory.

    `model` holds the full-precision weights, unless `binarization` is set: then it is freshly made, and `state_dict`
    belongs to the graph those options rebuild.
    """

    model: nn.Module
    network: Network
    preset: str
    interface: Interface
    binarization: dict[str, Any] | None
    state_dict: dict[str, Tensor]
    layout: str  # "public" | "bhpe-compile"
    source: str
    ignored: tuple[str, ...] = ()
    ranges: dict[str, tuple[float, float]] | None = None
    """Of a network that was trained with the rounding of compiled ones: what its full-precision convolutions read."""

    @property
    def spec(self) -> str:
        """NAME:PRESET, as `--network` takes it."""
        return f"{self.network.name}:{self.preset}"
