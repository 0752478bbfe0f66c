"""The inputs that an artefact is verified on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.artifact import load_reference
from bhpe_compile.networks.interface import Interface
from bhpe_compile.runtime import load_picture, make_feeds

Array = NDArray[Any]
Example = tuple[str, dict[str, Array], dict[str, Array] | None]
"""What it is called, the inputs by name, and the recorded outputs, if it is the recorded input."""

EMBEDDED = "drawn.jpg"
"""A packaged picture, beside the recorded input (which is the other one, unless pictures were named)."""

RECORDED = "the recorded input"


def examples_for(
    path: Path, manifest: Mapping[str, Any], interface: Interface, pictures: Sequence[Path]
) -> Iterator[Example]:
    """`pictures`, or without any the recorded input and one more: an embedded picture, or for a network that takes
    none a seeded tensor in the range of the recorded one. InputError where `pictures` are named for such a network."""
    for picture in pictures:
        yield str(picture), make_feeds(interface, load_picture(picture)), None
    if pictures:
        return
    reference = load_reference(path)
    yield RECORDED, reference.inputs, reference.outputs
    if interface.picture is not None:
        with as_file(files("bhpe_compile") / "data" / EMBEDDED) as embedded:
            yield (
                EMBEDDED,
                make_feeds(interface, load_picture(embedded), _others(interface, reference.inputs)),
                None,
            )
    else:
        yield "a seeded input", {name: _seeded(array) for name, array in reference.inputs.items()}, None


def _others(interface: Interface, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Inputs that are neither pictures nor boxes keep their recorded values."""
    return {
        port.name: inputs[port.name]
        for port in interface.inputs
        if port.kind != "picture" and port.vector is None
    }


def _seeded(like: Array) -> Array:
    if like.dtype.kind != "f" or not like.size:
        return like
    random = np.random.default_rng(1)
    return random.uniform(like.min(), like.max(), like.shape).astype(like.dtype)
