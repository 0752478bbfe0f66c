"""What a network is: a frozen description. Everything that differs between networks is said here, and nowhere else.

A family of networks (`networks/hand4whole/`, or a package of somebody else's) makes one `Network` and registers it
(`registry.py`); compiler, reports, runtime and command line ask it and know no network by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from bhpe_compile.networks.interface import Interface

if TYPE_CHECKING:
    from torch import nn

Role = Literal["stem", "core", "shortcut", "branch", "head"]
"""What a layer is for binarizing; see `passes/binarize/roles.py`, which derives it from the graph."""

Roles = tuple[tuple[str, Role], ...]
"""(glob on a layer's path, role): what the graph's structure does not tell; the first that matches counts."""

OTHER = "other"
"""The stage of layers that no stage of the description names."""


@dataclass(frozen=True)
class Layout:
    """A published checkpoint: where its state dict is, and what its keys are called.

    preset      of the network in it
    wrappers    keys under which the state dict may stand; a bare state dict is read as well
    prefix      of the keys, left out
    ignored     prefixes of keys that are not the network's (a licensed body's buffers), or globs where one has a *
    optional    keys that published files do not have and that a user may add: buffers of the network
    signature   keys, without the prefix, that tell this layout from others
    shapes      (key, shape): tensors whose shape tells it from layouts with the same keys
    """

    preset: str
    wrappers: tuple[str, ...] = ()
    prefix: str = ""
    ignored: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    signature: tuple[str, ...] = ()
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()


@dataclass(frozen=True)
class Published:
    """What a paper prints for a preset in a scheme: millions of 32-bit parameters, 1e9 operations."""

    preset: str
    scheme: str
    parameters: float
    operations: float


@dataclass(frozen=True)
class Network:
    """A family of networks.

    build       preset -> the module in full precision, in eval mode; its parameters are named as in checkpoints. It
                takes the tensors of the interface's inputs, in order, and returns a dict of its outputs.
    interface   preset -> inputs, outputs, skeleton, which outputs pose a body
    stages      (glob, stage): reports add up layers by stage; the first glob that matches a layer's path counts
    roles       (glob, role): overrides of what the graph's structure says
    targets     (labels, view) -> what its outputs should be, arrays by output without the batch axis (`evaluate/
                dataset.py`, `runtime/picture.py`); None: `train` does not know it. `distill` needs none
    begin       (new module, targets of many people) -> nothing: sets what it starts from, means for example
    weights     terms of the loss whose weight is not that of their kind (`distill/by_kind.py`), by output
    carried     what its checkpoints carry beside weights, where no package describes it (`frontends/structured.py`)
    lesson      preset -> the `Lesson` (`distill/lesson.py`) of a network that learns in a way of its own
    """

    name: str
    summary: str
    presets: tuple[str, ...]
    build: Callable[[str], nn.Module]
    interface: Callable[[str], Interface]
    layouts: tuple[Layout, ...] = ()
    stages: tuple[tuple[str, str], ...] = ()
    roles: Roles = ()
    published: tuple[Published, ...] = ()
    targets: Callable[[Any, Any], Mapping[str, Any]] | None = None
    begin: Callable[[nn.Module, Mapping[str, Any]], None] | None = None
    weights: Mapping[str, float] = field(default_factory=dict, hash=False)
    lesson: Callable[[str], Any] | None = None
    carried: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def stage_of(self, layer: str) -> str:
        """The stage of the layer at a path."""
        return next((stage for glob, stage in self.stages if fnmatchcase(layer, glob)), OTHER)
