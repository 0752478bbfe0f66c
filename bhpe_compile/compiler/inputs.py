"""What a network is run on while it is compiled."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from bhpe_compile.networks.interface import Interface

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def picture_inputs(interface: Interface, picture: Path | None) -> dict[str, NDArray[np.float32]]:
    """A photograph (None: the embedded one) as the network takes it: its inputs by name, in order.

    InputError for a network that takes no picture.
    """
    from bhpe_compile.runtime import load_picture, make_feeds

    with as_file(files("bhpe_compile") / "data" / "person.png") as embedded:
        feeds = make_feeds(interface, load_picture(picture or embedded))
    return {port.name: feeds[port.name] for port in interface.inputs}
