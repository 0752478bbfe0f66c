"""What a network is run on while it is compiled."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bhpe_compile.networks.interface import Interface

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEED = 0
"""Of the inputs that are drawn where nobody gave any."""


def picture_inputs(interface: Interface, picture: Path | None) -> dict[str, NDArray[np.float32]]:
    """A photograph (None: the embedded one) as the network takes it: its inputs by name, in order.

    InputError for a network that takes no picture.
    """
    from bhpe_compile.runtime import load_picture, make_feeds

    with as_file(files("bhpe_compile") / "data" / "person.png") as embedded:
        feeds = make_feeds(interface, load_picture(picture or embedded))
    return {port.name: feeds[port.name] for port in interface.inputs}


def drawn_inputs(ports: Mapping[str, tuple[tuple[int, ...], str]]) -> dict[str, NDArray[Any]]:
    """Inputs of these shapes and dtypes, by name: floats of 0 .. 1 from a seed, and zeros of all else."""
    import numpy as np

    drawn = np.random.default_rng(SEED)
    return {
        name: drawn.random(shape, np.float32).astype(dtype)
        if np.dtype(dtype).kind == "f"
        else np.zeros(shape, dtype)
        for name, (shape, dtype) in ports.items()
    }
