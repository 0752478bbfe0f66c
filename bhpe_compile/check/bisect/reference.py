"""What every layer of the torch graph read and returned: the reference that all later stages are held against.

    reads[L]   what layer L read                         float32, layout of torch
    tails[L]   what stands behind L and its batch norms  folds move factors between the two, never past them

A layer that is called again is L#1, L#2, as in the ONNX graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray
from torch import fx, nn

from bhpe_compile.networks.interface import UNDESCRIBED, Interface
from bhpe_compile.networks.layers.binary import BinaryLayer

Array = NDArray[Any]

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass
class Reference:
    """Values by layer, and the network's outputs by name.

    `source` says who computed them, `interface` what the outputs are.
    """

    source: str
    reads: dict[str, Array] = field(default_factory=dict)
    tails: dict[str, Array] = field(default_factory=dict)
    outputs: dict[str, Array] = field(default_factory=dict)
    interface: Interface = UNDESCRIBED


class _Recorder(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule, reference: Reference) -> None:
        super().__init__(graph)
        self.reference = reference
        self._waiting: dict[fx.Node, str] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        layer = self.submodules[str(n.target)] if n.op == "call_module" else None
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | BinaryLayer):
            name, count = str(n.target), 1
            while name in self.reference.reads:
                name, count = f"{n.target}#{count}", count + 1
            (x, *_), _ = self.fetch_args_kwargs_from_env(n)
            self.reference.reads[name] = x.numpy().copy()
            self._tail(n, name, result)
        elif n in self._waiting:
            self._tail(n, self._waiting[n], result)
        return result

    def _tail(self, node: fx.Node, name: str, value: torch.Tensor) -> None:
        self.reference.tails[name] = value.numpy().copy()
        follower = next(iter(node.users)) if len(node.users) == 1 else None
        if follower is None or follower.op != "call_module":
            return
        if isinstance(self.submodules[str(follower.target)], NORMS):
            self._waiting[follower] = name


def torch_reference(
    graph: fx.GraphModule, feeds: Mapping[str, Array], interface: Interface = UNDESCRIBED
) -> Reference:
    """Run a frozen graph (returns a dict of tensors) on `feeds`, in their order, and keep what its layers read and
    returned."""
    reference = Reference("torch", interface=interface)
    with torch.no_grad():
        outputs = _Recorder(graph, reference).run(*map(torch.from_numpy, feeds.values()))
    reference.outputs = {name: value.numpy().copy() for name, value in outputs.items()}
    return reference
