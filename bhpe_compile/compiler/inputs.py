"""What a network is run on while it is compiled."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from bhpe_compile.exchange import INPUT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def picture_inputs(picture: Path | None) -> dict[str, NDArray[np.float32]]:
    """A photograph (None: the embedded one) as the network takes it: its inputs by name, in order."""
    from bhpe_compile.runtime import load_picture

    with as_file(files("bhpe_compile") / "data" / "person.png") as embedded:
        return {INPUT: load_picture(picture or embedded).network_input}
