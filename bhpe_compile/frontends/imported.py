"""What every door gives the compiler: a network in memory, and what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
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


def blank(network: Network, preset: str) -> nn.Module:
    """The network with zeros for weights: nothing is drawn at random that is overwritten at once."""
    with torch.device("meta"):
        model = network.build(preset)
    zeros = {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in model.state_dict().items()}
    model.load_state_dict(
        zeros, assign=True
    )  # to_empty() imports torch's symbolic shapes, half a second of them
    for path, buffer in list(model.named_buffers()):
        if buffer.is_meta:  # no part of the state
            owner, _, name = path.rpartition(".")
            model.get_submodule(owner).register_buffer(name, torch.zeros(buffer.shape), persistent=False)
    return model.eval()
