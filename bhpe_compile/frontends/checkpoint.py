"""Reading and writing models. Nothing in a file is ever executed: `weights_only=True`, or safetensors.

    published            a layout that some network's description knows (`networks/network.py`, `Layout`)
    .pt                  {"format", "version", "network", "preset", "binarization", "state_dict"}, written here
    .safetensors         the same facts as metadata, written here

A network that came as an ONNX file is described by its own checkpoint: "structure" and "interface" (`structured.py`).

Which network a published checkpoint holds is seen from its keys; where two fit, nothing is guessed.

A binarized checkpoint carries the options it was binarized with; whoever loads it rebuilds the graph with them and
then calls `load_state`. A finished one may be written `compact`: one bit for each binary weight and one magnitude for
each output channel, float16 for the other weights, which is all of them that a compiled model keeps. `ranges`, where
they are, say that it was trained with the rounding of compiled networks (`networks/layers/rounding.py`).
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.files import write_atomically
from bhpe_compile.frontends.imported import Imported
from bhpe_compile.frontends.structured import INTERFACE, STRUCTURE, structured_network
from bhpe_compile.networks.choice import Choice, choose
from bhpe_compile.networks.interface import Interface
from bhpe_compile.networks.layers.binary import BinaryLayer
from bhpe_compile.networks.layers.rounding import Ranges, fits_float16
from bhpe_compile.networks.network import Layout, Network
from bhpe_compile.networks.registry import FIRST, get_network, networks
from bhpe_compile.networks.structure import Structure
from bhpe_compile.reading import MalformedError, open_regular, parse_json
from bhpe_compile.reading_arrays import check_safetensors, open_archive

FORMAT, VERSION = "bhpe-compile", 2
BEFORE = 1
"""The version whose files do not name their network: it was the first one."""

PUBLIC = "public"
"""The layout of published checkpoints; files written here have the layout `FORMAT`."""

FITS = 0.5
"""Part of a layout's signature that must be there for a file to be taken for it; `load_state` names what is missing."""

SHOWN = 5
"""Names listed in an error before it says how many more there are."""

COUNTERS = "num_batches_tracked"
"""Batch norm's counters: used by no computation here, so a checkpoint may lack them."""

VARIANCES = "running_var"
"""Batch norm's variances."""

SHARED = 16
"""Tensors of a file may share numbers, and be this many times as large as it, all together."""

DTYPES = frozenset(
    {
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
        *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    }
)
"""Kinds of numbers that a state may hold."""

FORBIDDEN = re.compile(r"GLOBAL ([\w.]+) (?:whose|was)|safe_globals\(\[([\w.]+)\]\)")
"""How torch.load names what a pickle would have called."""


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
    content = _read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)
    if "format" in content and not isinstance(content["format"], Tensor):
        return _own(path, content, choice)
    network, layout, state = _recognise(path, content, choice)
    return _published(path, network, layout, state, choice)


def _recognise(
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
            f"{path}: no model in it (keys: {_names(keys)}); expected a published checkpoint of "
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


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` into `module`; InputError names missing, unexpected, misshapen and non-finite tensors, and
    negative variances."""
    own = module.state_dict()
    missing = [name for name in own if name not in state and not name.endswith(COUNTERS)]
    unexpected = [name for name in state if name not in own]
    if missing or unexpected:
        parts = [f"{len(missing)} missing: {_names(missing)}"] if missing else []
        parts += [f"{len(unexpected)} unexpected: {_names(unexpected)}"] if unexpected else []
        raise InputError(f"{source}: not a checkpoint of this network; {'; '.join(parts)}")
    misshapen = [
        f"{name} has shape {tuple(value.shape)}, the network needs {tuple(own[name].shape)}"
        for name, value in state.items()
        if value.shape != own[name].shape
    ]
    if misshapen:
        raise InputError(f"{source}: {_names(misshapen)}")
    check_finite(state, source)
    negative = [n for n, value in state.items() if n.endswith(VARIANCES) and bool((value < 0).any())]
    if negative:
        raise InputError(f"{source}: a variance below 0 in {_names(negative)}; the file is damaged")
    module.load_state_dict(dict(state), strict=False)


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """InputError that names tensors with NaN or infinity, as float32, which is what is computed with."""
    broken = [name for name, value in state.items() if not bool(torch.isfinite(value.float()).all())]
    if broken:
        raise InputError(
            f"{source}: NaN or infinity in {_names(broken)}, as float32; the training that wrote it diverged"
        )


def compact_state(
    model: nn.Module, state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """`state` with packed binary weights and float16 weights, and the shapes of the packed ones by name.

    Instead of NAME there are NAME.bits uint8 (1 for a weight >= 0, most significant bit first, in the order of memory)
    and NAME.magnitude float32, mean |W| for each output channel, to be broadcast.
    """
    packed, shapes = dict(state), {}
    for path, layer in model.named_modules():
        name = f"{path}.weight"
        if isinstance(layer, BinaryLayer):
            weight = packed.pop(name)
            shape = [-1 if axis == layer.out_axis else 1 for axis in range(weight.ndim)]
            packed[f"{name}.bits"] = torch.from_numpy(np.packbits((weight >= 0).numpy()))
            packed[f"{name}.magnitude"] = layer.scale().detach().cpu().view(shape)
            shapes[name] = list(weight.shape)
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and fits_float16(packed[name]):
            packed[name] = packed[name].half()
    return packed, shapes


def expand_state(state: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Inverse of `compact_state`: float32 everywhere, weights of + or - their magnitude.

    Raises ValueError where bits or magnitude of a name are missing or do not fit its shape.
    """
    full = dict(state)
    for name, shape in shapes.items():
        bits, magnitude = full.pop(f"{name}.bits", None), full.pop(f"{name}.magnitude", None)
        count = math.prod(shape)
        if bits is None or magnitude is None or bits.dtype != torch.uint8 or bits.numel() != -(-count // 8):
            raise ValueError(name)
        signs = torch.from_numpy(np.unpackbits(bits.numpy(), count=count)).view(*shape).float() * 2 - 1
        full[name] = signs * magnitude
        if full[name].shape != signs.shape:
            raise ValueError(name)
    return {n: value.float() if value.dtype == torch.float16 else value for n, value in full.items()}


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
    _check_dtypes(path, state)
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


def _published(
    path: Path, network: Network, layout: Layout, state: Mapping[str, Tensor], choice: Choice | None
) -> Imported:
    globs = [one if "*" in one else f"{one}*" for one in layout.ignored]
    ignored = tuple(name for name in state if any(fnmatchcase(name, glob) for glob in globs))
    state = {name: value for name, value in state.items() if name not in ignored}
    _check_dtypes(path, state)
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


def blank(network: Network, preset: str) -> nn.Module:
    """The network with zeros for weights: nothing is drawn at random that is overwritten at once."""
    with torch.device("meta"):
        model = network.build(preset)
    zeros = {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in model.state_dict().items()}
    model.load_state_dict(
        zeros, assign=True
    )  # to_empty() imports torch's symbolic shapes, half a second of them
    for path, buffer in list(model.named_buffers()):
        if buffer.is_meta:  # no part of the state
            owner, _, name = path.rpartition(".")
            model.get_submodule(owner).register_buffer(name, torch.zeros(buffer.shape), persistent=False)
    return model.eval()


def is_state(value: object) -> TypeGuard[Mapping[str, Tensor]]:
    """Whether `value` maps names to ordinary tensors (dense, not quantized, with numbers in them)."""
    return isinstance(value, Mapping) and all(
        isinstance(name, str)
        and isinstance(t, Tensor)
        and t.layout == torch.strided
        and not t.is_quantized
        and t.device.type == "cpu"
        for name, t in value.items()
    )


def _check_dtypes(path: Path, state: Mapping[str, Tensor]) -> None:
    """InputError that names tensors of numbers which are not computed with here: complex ones, 8-bit floats."""
    others = [f"{name} ({value.dtype})" for name, value in state.items() if value.dtype not in DTYPES]
    if others:
        raise InputError(
            f"{path}: {_names(others)}: numbers of this kind are not read; save the weights as float32"
        )


def read_torch(path: Path) -> Mapping[str, Any]:
    """What `torch.save` wrote, weights and plain data only, its checksums compared. InputError for anything else."""
    try:
        if zipfile.is_zipfile(path):
            with open_archive(path) as archive:
                archive.check()
    except (OSError, MalformedError) as error:
        raise InputError(f"{path}: damaged: {error}; copy or download the checkpoint again") from error
    try:
        # warnings of pickle protocols that are refused below
        with warnings.catch_warnings(action="ignore"), _plain_name(path) as place:
            content = torch.load(place, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(place))
    except pickle.UnpicklingError as error:
        named = FORBIDDEN.search(str(error))
        if named or _is_pickle(path):
            code = f"code ({named[1] or named[2]})" if named else "more than weights"
            raise InputError(
                f"{path}: the pickle holds {code}, which is not run; in the program that wrote it, save the "
                "state dict alone: torch.save({'network': model.state_dict()}, path)"
            ) from error
        raise InputError(f"{path}: damaged, or not a PyTorch checkpoint") from error
    except Exception as error:  # torch raises more than a dozen kinds for bytes that are no checkpoint
        raise InputError(f"{path}: truncated, damaged or not a PyTorch checkpoint") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a checkpoint with named tensors")
    _check_sizes(path, content)
    return content


def _check_sizes(path: Path, content: object) -> None:
    """InputError for tensors that say they are larger than their numbers in the file (strides of 0), one by one or,
    through numbers that many share, together. Nothing has been allocated for them so far.
    """
    size, total = path.stat().st_size, 0
    waiting, seen = [content], {id(content)}
    while waiting:
        one = waiting.pop()
        if isinstance(one, Tensor):
            if one.layout != torch.strided or one.device.type != "cpu":
                continue  # refused by `is_state`
            needed = one.numel() * one.element_size()
            total += needed
            if needed > one.untyped_storage().nbytes() or total > SHARED * size:
                raise InputError(
                    f"{path}: a tensor of shape {list(one.shape)} needs {needed} bytes, which the file does not have; "
                    "save contiguous tensors"
                )
        parts = one.values() if isinstance(one, Mapping) else one if isinstance(one, list | tuple) else ()
        for part in parts:
            if id(part) not in seen:
                seen.add(id(part))
                waiting.append(part)


@contextmanager
def _plain_name(path: Path) -> Iterator[Path]:
    """`path`, or another name of the same file where libraries could not write the first as UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with open_regular(path) as file:
            yield Path(f"/proc/self/fd/{file.fileno()}")
    else:
        yield path


def _is_pickle(path: Path) -> bool:
    """Whether the file starts (protocol 2 to 5) and ends (STOP) as a bare pickle does."""
    with path.open("rb") as file:
        head = file.read(2)
        file.seek(-1, os.SEEK_END)
        return len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5 and file.read() == pickle.STOP


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        facts = parse_json(check_safetensors(path).get("facts", "{}"))
        with _plain_name(path) as place, safetensors.safe_open(place, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except MalformedError as error:
        raise InputError(f"{path}: damaged, or not a safetensors file: {error}") from error
    except Exception as error:  # safetensors raises its own kind, torch others
        raise InputError(f"{path}: truncated, damaged or not a safetensors file") from error
    return {**facts, "state_dict": state} if isinstance(facts, dict) and facts else state


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(str(name) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
