"""The networks there are: those of this package, and those that installed packages bring.

A package says `[project.entry-points."bhpe_compile.networks"]` with `name = "module:NETWORK"`, a `Network` or a
sequence of them. Nothing is imported before a network is asked for; torch not before one is built.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from bhpe_compile import __version__
from bhpe_compile.errors import InputError, UsageError, near
from bhpe_compile.networks.network import Network

GROUP = "bhpe_compile.networks"

FIRST = "hand4whole"
"""The network of files that name none, of `--preset`, and of commands that are told of none."""

OURS = tuple(
    f"bhpe_compile.networks.{family}.description" for family in ("hand4whole", "hmr", "cliff", "vqhps")
)
"""Modules with a `NETWORK` each, or a sequence of them under that name."""


@dataclass(frozen=True)
class Registered:
    """A network, and the package that brings it: "bhpe-compile 0.1.0"."""

    network: Network
    source: str


@cache
def registered() -> Mapping[str, Registered]:
    """All networks by name. InputError names a package whose entry point cannot be loaded or takes a known name."""
    found: dict[str, Registered] = {}
    for module in OURS:
        for network in _networks(import_module(module).NETWORK, module):
            found[network.name] = Registered(network, f"bhpe-compile {__version__}")
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        source = _source(point)
        try:
            brought = tuple(_networks(point.load(), point.value))
        except Exception as error:  # whatever a foreign package raises
            says = " ".join(str(error).split())
            raise InputError(f"{source}: its network {point.value} cannot be loaded: {says}") from error
        for network in brought:
            if network.name in found:
                raise InputError(
                    f"two packages bring a network {network.name}: {found[network.name].source} and {source}; "
                    "uninstall one"
                )
            found[network.name] = Registered(network, source)
    return found


def _networks(value: object, where: str) -> Iterator[Network]:
    for one in value if isinstance(value, list | tuple) else (value,):
        if not isinstance(one, Network):
            raise InputError(f"{where} is no Network but a {type(one).__name__}")
        yield one


def _source(point: EntryPoint) -> str:
    return "an unknown package" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def networks() -> tuple[Network, ...]:
    """All networks, ours first."""
    return tuple(one.network for one in registered().values())


def get_network(name: str) -> Network:
    """The network `name`. UsageError with near names where there is none."""
    known = registered()
    if name not in known:
        raise UsageError(
            f"no network is called {name!r}; {near(name, list(known), 'see bhpe-compile networks')}"
        )
    return known[name].network
