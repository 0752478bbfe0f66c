"""Published checkpoints: which network's layout a file has is seen from its keys; where two fit, nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import Tensor

from bhpe_compile.errors import InputError
from bhpe_compile.frontends.imported import Imported, blank
from bhpe_compile.frontends.state import check_finite, load_state, shown_names
from bhpe_compile.frontends.torch_files import check_dtypes, is_state
from bhpe_compile.networks.choice import Choice
from bhpe_compile.networks.network import Layout, Network
from bhpe_compile.networks.registry import networks

PUBLIC = "public"
"""The layout of published checkpoints; files written here have another one (`checkpoint.py`)."""

FITS = 0.5
"""Part of a layout's signature that must be there for a file to be taken for it; `load_state` names what is missing."""


def with_layout(
    path: Path, network: Network, layout: Layout, state: Mapping[str, Tensor], choice: Choice | None
) -> Imported:
    globs = [one if "*" in one else f"{one}*" for one in layout.ignored]
    ignored = tuple(name for name in state if any(fnmatchcase(name, glob) for glob in globs))
    state = {name: value for name, value in state.items() if name not in ignored}
    check_dtypes(path, state)
    model = blank(network, layout.preset)
    load_state(model, {n: value for n, value in state.items() if n not in layout.optional}, str(path))
    for name in state.keys() & set(layout.optional):
        own = model.get_buffer(name)
        if state[name].shape != own.shape:
            shapes = f"{tuple(state[name].shape)}, the network needs {tuple(own.shape)}"
            raise InputError(f"{path}: {name} has shape {shapes}")
        check_finite({name: state[name]}, str(path))
        own.copy_(state[name])
    interface = (choice or Choice(network, layout.preset)).interface(layout.preset)
    return Imported(model, network, layout.preset, interface, None, state, PUBLIC, str(path), ignored)


def recognise(
    path: Path, content: Mapping[str, Any], choice: Choice | None
) -> tuple[Network, Layout, Mapping[str, Tensor]]:
    """Which network's published layout a file has, and its state dict. InputError where none fits, or several do."""
    candidates = [
        (_fit(state, layout), network, layout, state)
        for network in (networks() if choice is None else (choice.network,))
        for layout in network.layouts
        if (choice is None or choice.preset in (None, layout.preset))
        and (state := _unwrapped(content, layout))
    ]
    # what the user names need not fit: `load_state` says what is missing
    fitting = [one for one in candidates if one[0] >= FITS] or (candidates[:1] if choice is not None else [])
    best = [one for one in fitting if one[0] == max(share for share, *_ in fitting)]
    if not best:
        known = ", ".join(network.name for network in networks() if network.layouts)
        keys = [
            key
            for name, value in content.items()
            for key in ([f"{name}: {inner}" for inner in value] if isinstance(value, Mapping) else [name])
        ]
        raise InputError(
            f"{path}: no model in it (keys: {shown_names(keys)}); expected a published checkpoint of "
            f"{known}, or a file written by bhpe-compile"
        )
    if len(best) > 1:
        names = " and ".join(f"{network.name}:{layout.preset}" for _, network, layout, _ in best)
        raise InputError(f"{path}: its keys fit {names}; say which one with --network")
    return best[0][1:]


def _unwrapped(content: Mapping[str, Any], layout: Layout) -> dict[str, Tensor]:
    """The state dict in a file of this layout, keys without its prefix; empty where there is none."""
    inner = next((content[name] for name in layout.wrappers if name in content), content)
    if not is_state(inner):
        return {}
    return {name.removeprefix(layout.prefix): value for name, value in inner.items()}


def _fit(state: Mapping[str, Tensor], layout: Layout) -> float:
    """Which part of what tells the layout from others is in `state`."""
    told = [name in state for name in layout.signature]
    told += [name in state and tuple(state[name].shape) == shape for name, shape in layout.shapes]
    return sum(told) / max(1, len(told))
