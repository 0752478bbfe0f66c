"""What a compilation rounds beyond its binary layers: the other layers in 8 bits, residuals in float16."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bhpe_compile.compiler.inputs import picture_inputs
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.progress import Progress
from bhpe_compile.networks.interface import Interface

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import fx

    from bhpe_compile.exchange.scales import Steps
    from bhpe_compile.networks.layers.rounding import Ranges


@dataclass(frozen=True)
class Rounding:
    """Convolutions whose inputs have `ranges` compute in 8 bits; where `half`, residuals are float16.

    `source` says where the ranges are from, None where nothing has 8 bits. `wide`: the feature maps that float16 does
    not hold, by the names of their nodes, and their largest magnitudes. `steps`: of the weights of a file that has them
    in 8 bits.
    """

    ranges: Ranges | None = None
    half: bool = False
    source: dict[str, Any] | None = None
    wide: Mapping[str, float] = field(default_factory=dict)
    steps: Steps | None = None


def choose_rounding(
    graph: fx.GraphModule,
    interface: Interface,
    options: CompileOptions,
    example: Mapping[str, NDArray[np.float32]],
    progress: Progress,
    trained: Ranges | None = None,
    largest: Mapping[str, float] | None = None,
) -> Rounding:
    """What the options ask to be rounded.

    largest: magnitudes of the feature maps that are kept for later, by node, as a first run found them; those of the
    calibration are added.

    The ranges of 8-bit layers are those they were `trained` with. Without these, or where the options name pictures,
    they are measured here: on the pictures, or on `example`, the inputs by name, and its mirror image.
    """
    from bhpe_compile.exchange.calibrate import calibrate

    half, first = options.keeps_half, largest or {}
    if not options.computes_int8:
        return Rounding(half=half, wide=_wide(first))
    if trained is not None and not options.calibrate:
        return Rounding(trained, half, {"source": "training"}, _wide(first))
    found = calibrate(graph, examples_for(interface, options, example), progress.step, first)
    source = "user" if options.calibrate else "embedded example"
    every = {name: max(found.largest.get(name, 0.0), size) for name, size in first.items()}
    return Rounding(found.ranges(), half, {"source": source, "pictures": found.pictures}, _wide(every))


def _wide(largest: Mapping[str, float]) -> dict[str, float]:
    from bhpe_compile.passes.half_maps import does_not_fit

    return {name: size for name, size in largest.items() if does_not_fit(size)}


def examples_for(
    interface: Interface, options: CompileOptions, example: Mapping[str, NDArray[np.float32]]
) -> Iterable[Mapping[str, NDArray[np.float32]]]:
    """What a network is shown while it is compiled, one picture after another: those that the options name, or
    `example` (its inputs by name, in order) and its mirror image."""
    from bhpe_compile.exchange.calibrate import with_mirror_image

    if options.calibrate:
        return (picture_inputs(interface, path) for path in options.calibrate)
    return with_mirror_image(interface, example)
