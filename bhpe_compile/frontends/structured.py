"""A network that no package describes: what a file tells of it makes the `Network` that everything else asks."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from bhpe_compile.networks.interface import Interface
from bhpe_compile.networks.network import Network
from bhpe_compile.networks.structure import NETWORK, Structure
from bhpe_compile.networks.structure_torch import build_structure, shapes_of

STRUCTURE, INTERFACE = "structure", "interface"
"""Where a checkpoint of such a network carries what a package says of others."""


def structured_network(
    preset: str, structure: Structure, state: Mapping[str, Tensor], interface: Interface, source: str
) -> Network:
    """The network of `structure`, with layers of the sizes in `state`. Building it raises as `build_structure`;
    `source` is the file it is from."""
    shapes = shapes_of(state)
    return Network(
        name=NETWORK,
        summary="a network that came as an ONNX file",
        presets=(preset,),
        build=lambda _: build_structure(structure, shapes, source),
        interface=lambda _: interface,
        carried={STRUCTURE: structure.to_json(), INTERFACE: interface.to_dict()},
    )
