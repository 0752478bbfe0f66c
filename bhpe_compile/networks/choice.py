"""What `--network` says: NAME, NAME:PRESET, or a TOML file that begins with one and changes what the description says.

    network = "hand4whole:tiny"

    [inputs.image.crop]
    enlarge = 1.1

    [outputs.joint_img]
    tolerance = 0.02

The keys of inputs and outputs are those of `networks/interface.py`; a table of names replaces the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bhpe_compile.errors import InputError, UsageError, near
from bhpe_compile.networks.interface import Interface
from bhpe_compile.networks.network import Network
from bhpe_compile.networks.registry import get_network
from bhpe_compile.reading import MalformedError, read_toml

SUFFIX = ".toml"


@dataclass(frozen=True)
class Choice:
    """A network; its preset, None where any will do; and what a file changes of its interface."""

    network: Network
    preset: str | None
    changes: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def first(self) -> str:
        """The preset, the network's first one where none was named."""
        return self.preset or self.network.presets[0]

    @property
    def spec(self) -> str:
        """NAME:PRESET, as `--network` takes it."""
        return f"{self.network.name}:{self.first}"

    def interface(self, preset: str) -> Interface:
        """That of the network, changed as the file says. InputError for a name or a value that does not fit."""
        data = self.network.interface(preset).to_dict()
        return merged_interface(data, self.changes, self.source, self.network.name)


def choose(spec: str) -> Choice:
    """The choice that NAME, NAME:PRESET or a path to a TOML file makes.

    UsageError for an unknown network or preset and for a file that is not there, InputError for a damaged file.
    """
    if spec.endswith(SUFFIX):
        return _from_file(Path(spec))
    name, _, preset = spec.partition(":")
    network = get_network(name)
    if preset and preset not in network.presets:
        raise UsageError(f"network {name} has no preset {preset!r}: it has {', '.join(network.presets)}")
    return Choice(network, preset or None)


def _from_file(path: Path) -> Choice:
    try:
        content = read_toml(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except MalformedError as error:
        raise InputError(f"{path}: is not TOML ({error})") from None
    unknown = sorted(content.keys() - {"network", "inputs", "outputs", "skeleton"})
    if unknown:
        raise InputError(
            f"{path}: unknown {', '.join(unknown)}; known are network, inputs, outputs, skeleton"
        )
    spec = content.pop("network", None)
    if not isinstance(spec, str) or spec.endswith(SUFFIX):
        raise InputError(f'{path}: says no network; begin with network = "NAME:PRESET"')
    chosen = choose(spec)
    return Choice(chosen.network, chosen.preset, content, str(path))


def _merged(data: Any, change: Any) -> Any:
    """`data` with the values of `change` in place of its own, table by table."""
    if not isinstance(data, Mapping) or not isinstance(change, Mapping):
        return change
    return {**data, **{name: _merged(data.get(name), value) for name, value in change.items()}}


def merged_interface(data: dict[str, Any], changes: Mapping[str, Any], source: str, name: str) -> Interface:
    """The interface that plain data describe, changed as `changes` (of the file `source`) say; `name`: whose it is.

    InputError for a name or a value that does not fit.
    """
    for ports in ("inputs", "outputs"):
        described = {one["name"]: dict(one) for one in data.get(ports, ())}
        changed = changes.get(ports, {})
        if not isinstance(changed, Mapping):
            raise InputError(
                f"{source}: {ports} are tables by name, such as [{ports}.{next(iter(described))}]"
            )
        for port, change in changed.items():
            if port not in described:
                hint = near(port, list(described), f"there are {', '.join(described)}")
                raise InputError(f"{source}: {name} has no {ports[:-1]} {port!r}; {hint}")
            described[port] = _merged(described[port], change)
        data[ports] = list(described.values())
    if "skeleton" in changes:
        data["skeleton"] = _merged(data.get("skeleton", {}), changes["skeleton"])
    if "simcc" in changes:
        data["simcc"] = _merged(data.get("simcc", {}), changes["simcc"])
    try:
        return Interface.from_dict(data)
    except InputError as error:
        raise InputError(f"{source or name}: {error}") from None
