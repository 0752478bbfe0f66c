"""Reading and writing models.

    published            a layout that some network's description knows (`published.py`)
    .pt                  {"format", "version", "network", "preset", "binarization", "state_dict"}, written here
    .safetensors         the same facts as metadata, written here

A network that came as an ONNX file is described by its own checkpoint: "structure" and "interface" (`structured.py`).

A binarized checkpoint carries the options it was binarized with; whoever loads it rebuilds the graph with them and
then calls `load_state`. A finished one may be written `compact`: one bit for each binary weight and one magnitude for
each output channel, float16 for the other weights, which is all of them that a compiled model keeps. `ranges`, where
they are, say that it was trained with the rounding of compiled networks (`networks/layers/rounding.py`).
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.files import write_atomically
from bhpe_compile.frontends.imported import Imported, blank
from bhpe_compile.frontends.published import recognise, with_layout
from bhpe_compile.frontends.state import compact_state, expand_state, load_state
from bhpe_compile.frontends.structured import INTERFACE, STRUCTURE, structured_network
from bhpe_compile.frontends.torch_files import check_dtypes, is_state, read_safetensors, read_torch
from bhpe_compile.networks.choice import Choice, choose
from bhpe_compile.networks.interface import Interface
from bhpe_compile.networks.layers.rounding import Ranges
from bhpe_compile.networks.registry import FIRST, get_network
from bhpe_compile.networks.structure import Structure
from bhpe_compile.reading import open_regular

FORMAT, VERSION = "bhpe-compile", 2
BEFORE = 1
"""The version whose files do not name their network: it was the first one."""


def load_model(path: Path, spec: str | None = None) -> Imported:
    """Read a checkpoint of any known layout. spec: the network it holds, as `--network` says it; None: seen from its
    keys.

    Raises UsageError when there is no such file, when it cannot be read, or for an unknown `spec`; InputError with one
    line for anything damaged or foreign, and where the keys fit several networks.
    """
    choice = None if spec is None else choose(spec)
    try:
        with open_regular(path) as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder, not a checkpoint") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    if empty:
        raise InputError(f"{path}: the file is empty; copy or download the checkpoint again")
    content = read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)
    if "format" in content and not isinstance(content["format"], Tensor):
        return _own(path, content, choice)
    network, layout, state = recognise(path, content, choice)
    return with_layout(path, network, layout, state, choice)


def save_model(
    path: Path,
    model: nn.Module,
    spec: str,
    binarization: Mapping[str, Any] | None = None,
    *,
    compact: bool = False,
    ranges: Ranges | None = None,
    carried: Mapping[str, Any] | None = None,
) -> None:
    """Write `model`'s state atomically as .safetensors or .pt, by the suffix of `path`; same input, same bytes.

    spec: NAME:PRESET of the network. carried: what its description has of that name.
    """
    content = model_bytes(
        model, spec, binarization, suffix=path.suffix, compact=compact, ranges=ranges, carried=carried
    )
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error


def model_bytes(
    model: nn.Module,
    spec: str,
    binarization: Mapping[str, Any] | None = None,
    *,
    suffix: str = ".pt",
    compact: bool = False,
    ranges: Ranges | None = None,
    carried: Mapping[str, Any] | None = None,
) -> bytes | memoryview:
    """What `save_model` writes into a file of this suffix."""
    network, _, preset = spec.partition(":")
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    facts: dict[str, Any] = {"format": FORMAT, "version": VERSION, "network": network, "preset": preset}
    facts |= carried or {}
    if ranges is not None:
        facts["ranges"] = {path: list(span) for path, span in ranges.items()}
    if compact:
        state, facts["signs"] = compact_state(model, state)
    if suffix == ".safetensors":
        described = {**facts, "binarization": binarization}
        packed: bytes = safetensors.torch.save(state, {"facts": json.dumps(described, sort_keys=True)})
        return packed
    buffer = io.BytesIO()  # given a path, torch would name the archive's inner folder after it
    torch.save({**facts, "binarization": binarization, "state_dict": state}, buffer)
    return buffer.getbuffer()


def _own(path: Path, content: Mapping[str, Any], choice: Choice | None) -> Imported:
    version = content.get("version")
    if content["format"] != FORMAT or type(version) is not int or version not in (BEFORE, VERSION):
        found = f"{content['format']!r} version {version!r}"
        raise InputError(f"{path}: format {found}; this program reads {FORMAT!r} version {VERSION}")
    name = content.get("network", FIRST) if version == VERSION else FIRST
    preset, state = content.get("preset"), content.get("state_dict")
    binarization = content.get("binarization")
    structured = STRUCTURE in content
    try:
        network = None if structured else get_network(str(name))
    except UsageError as error:
        raise InputError(f"{path}: holds a network of another package; {error}") from None
    known = (preset,) if network is None else network.presets
    if not isinstance(preset, str) or preset not in known:
        raise InputError(f"{path}: preset {preset!r} is not known; known are {', '.join(map(str, known))}")
    found = str(name) if network is None else network.name
    if choice is not None and (choice.network.name, choice.preset or preset) != (found, preset):
        raise UsageError(f"{path}: says that it holds {found}:{preset}; leave out --network")
    if not is_state(state) or not isinstance(binarization, dict | None):
        raise InputError(f"{path}: damaged: state_dict or binarization is missing or of a wrong kind")
    check_dtypes(path, state)
    try:
        state = expand_state(state, content.get("signs") or {})
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: damaged: the packed weights of {error} do not fit their shape") from error
    if network is None:
        structure = Structure.from_json(content[STRUCTURE], str(path))
        interface = _interface(path, content.get(INTERFACE))
        network = structured_network(preset, structure, state, interface, str(path))
    model = blank(network, preset)
    if binarization is None:
        load_state(model, state, str(path))
    try:
        ranges = _ranges(content.get("ranges"))
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: damaged: ranges of 8-bit layers: {error}") from error
    return Imported(
        model,
        network,
        preset,
        (choice or Choice(network, preset)).interface(preset),
        binarization,
        dict(state),
        FORMAT,
        str(path),
        ranges=ranges,
    )


def _interface(path: Path, content: object) -> Interface:
    """That of a network which its own checkpoint describes."""
    try:
        return Interface.from_dict(content)
    except InputError as error:
        raise InputError(f"{path}: damaged: {error}") from None


def _ranges(content: Any) -> dict[str, tuple[float, float]] | None:
    """What `save_model` wrote; ValueError, TypeError or AttributeError where it is something else."""
    if content is None:
        return None
    ranges = {str(name): (float(low), float(high)) for name, (low, high) in content.items()}
    for name, (low, high) in ranges.items():
        if not (math.isfinite(low) and math.isfinite(high) and low <= 0 <= high):
            raise ValueError(f"{low} .. {high} of {name}")
    return ranges
