"""Which values the layers read that are not binary: ranges for their 8-bit inputs, measured on pictures.

A frozen graph is run in torch; every input of a convolution that is not binary is sampled (`ranges.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from bhpe_compile.errors import InputError
from bhpe_compile.exchange.magnitudes import Watcher, all_finite, first_not_finite
from bhpe_compile.exchange.ranges import Samples
from bhpe_compile.networks.interface import Interface


@dataclass
class Calibration(Samples):
    """Samples of what a network in torch reads."""

    largest: dict[str, float] = field(default_factory=dict)
    """Magnitudes of the nodes that were watched."""

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        """What the convolutions of `network` that are not binary read inside is sampled."""
        hooks = [
            module.register_forward_pre_hook(
                lambda _, args, path=path: self.observe(path, args[0].detach().float().cpu().numpy())
            )
            for path, module in network.named_modules()
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def calibrate(
    graph: fx.GraphModule,
    examples: Iterable[Mapping[str, NDArray[np.float32]]],
    tick: Callable[[str], None] = lambda _: None,
    watched: Collection[str] = (),
) -> Calibration:
    """What `graph` reads on all `examples`, each its inputs by name, in order; `tick` hears of every one.

    watched: nodes whose largest magnitude is kept.
    """
    calibration = Calibration()
    with torch.no_grad(), calibration.watching(graph):
        for example in examples:
            tick(f"calibration, picture {calibration.pictures + 1}")
            inputs = {name: torch.from_numpy(array) for name, array in example.items()}
            found = Watcher(graph, watched, calibration.largest).run(*inputs.values())
            calibration.pictures += 1
            outputs = list(found.values()) if isinstance(found, Mapping) else [found]
            if not all_finite(outputs):
                where = first_not_finite(graph, inputs) or "the network"
                raise InputError(
                    f"{where}: NaN or infinity on picture {calibration.pictures} of the "
                    "calibration; its weights are broken, or the picture is nothing for this network"
                )
    return calibration


def with_mirror_image(
    interface: Interface, example: Mapping[str, NDArray[np.float32]]
) -> tuple[Mapping[str, NDArray[np.float32]], ...]:
    """`example` and its mirror image: two examples where only one picture is at hand.

    A picture [1, 3, H, W] is mirrored, a box's place across the picture changes its sign; other inputs stay.
    """
    mirrored = dict(example)
    for port in interface.inputs:
        array = example[port.name]
        if port.kind == "picture":
            mirrored[port.name] = np.ascontiguousarray(array[..., ::-1])
        elif port.kind == "box":
            mirrored[port.name] = array * np.array([-1, 1, 1], np.float32)
    return (example, mirrored) if any(port.kind == "picture" for port in interface.inputs) else (example,)
