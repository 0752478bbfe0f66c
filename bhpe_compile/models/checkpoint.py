"""Reading and writing models. Nothing in a file is ever executed: `weights_only=True`, or safetensors.

    snapshot_N.pth.tar   the public layout {epoch, network, optimizer}: 834 tensors named `module.*`, preset full
    .pt                  {"format", "version", "preset", "binarization", "state_dict"}, written here
    .safetensors         the same facts as metadata, written here

A binarized checkpoint carries the options it was binarized with; whoever loads it rebuilds the graph with them
and then calls `load_state`.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.models.hand4whole import Hand4Whole
from bhpe_compile.models.presets import FULL, PRESETS, Preset

FORMAT, VERSION = "bhpe-compile model", 1
PUBLIC_PREFIX = "module."
BODY_MODEL = ("smplx_layer.", "smplx.", "body_model.")
"""Keys of the licensed body model in public checkpoints: not part of the network, ignored."""

SHOWN = 5
"""Names listed in an error before it says how many more there are."""


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint in memory.

    `model` holds the full-precision weights, unless `binarization` is set: then it is freshly made, and
    `state_dict` belongs to the graph those options rebuild.
    """

    model: Hand4Whole
    preset: Preset
    binarization: dict[str, Any] | None
    state_dict: dict[str, Tensor]
    layout: str  # "public" | "bhpe-compile"
    source: str
    ignored: tuple[str, ...] = ()


def load_model(path: Path) -> LoadedModel:
    """Read a checkpoint of any known layout.

    Raises UsageError when there is no such file, InputError with one line for anything damaged or foreign.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; copy or download the checkpoint again")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if content.get("format") == FORMAT:
        return _own(path, content)
    if isinstance(content.get("network"), Mapping):
        return _public(path, content["network"])
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return _public(path, content)  # a bare state dict of the public network
    raise InputError(
        f"{path}: no model in it (keys: {_names(list(content))}); expected the public Hand4Whole layout "
        "or a file written by bhpe-compile"
    )


def save_model(
    path: Path, model: nn.Module, preset: Preset, binarization: Mapping[str, Any] | None = None
) -> None:
    """Write `model`'s state atomically as .safetensors or .pt, by the suffix of `path`; same input, same bytes."""
    state = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    facts = {"format": FORMAT, "version": VERSION, "preset": preset.name}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            metadata = {"facts": json.dumps({**facts, "binarization": binarization}, sort_keys=True)}
            save_file(state, temporary, metadata)
        else:
            buffer = (
                io.BytesIO()
            )  # the archive's inner folder takes the file's name: a buffer has a fixed one
            torch.save({**facts, "binarization": binarization, "state_dict": state}, buffer)
            temporary.write_bytes(buffer.getvalue())
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` into `module`; InputError names missing, unexpected, misshapen and non-finite tensors."""
    own = module.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    if missing or unexpected:
        parts = [f"{len(missing)} missing: {_names(missing)}"] if missing else []
        parts += [f"{len(unexpected)} unexpected: {_names(unexpected)}"] if unexpected else []
        raise InputError(f"{source}: not a checkpoint of this network; {'; '.join(parts)}")
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise InputError(
                f"{source}: {name} has shape {tuple(value.shape)}, the network needs {tuple(own[name].shape)}"
            )
    broken = [k for k, v in state.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if broken:
        raise InputError(
            f"{source}: NaN or infinity in {_names(broken)}; the training that wrote it diverged"
        )
    module.load_state_dict(dict(state), strict=False)


def _own(path: Path, content: Mapping[str, Any]) -> LoadedModel:
    if content.get("version") != VERSION:
        raise InputError(
            f"{path}: format version {content.get('version')}; this program reads version {VERSION}"
        )
    preset, state, binarization = (
        content.get("preset"),
        content.get("state_dict"),
        content.get("binarization"),
    )
    if (
        preset not in PRESETS
        or not _is_state(state)
        or not (binarization is None or isinstance(binarization, dict))
    ):
        raise InputError(f"{path}: damaged: preset, state_dict or binarization is missing or of a wrong kind")
    model = Hand4Whole(PRESETS[preset]).eval()
    if binarization is None:
        load_state(model, state, str(path))
    return LoadedModel(model, PRESETS[preset], binarization, dict(state), "bhpe-compile", str(path))


def _public(path: Path, network: Mapping[str, Any]) -> LoadedModel:
    if not _is_state(network):
        raise InputError(f"{path}: `network` holds other things than named tensors")
    state = {name.removeprefix(PUBLIC_PREFIX): value for name, value in network.items()}
    ignored = tuple(name for name in state if name.startswith(BODY_MODEL))
    state = {name: value for name, value in state.items() if name not in ignored}
    with torch.device("meta"):
        model = Hand4Whole(FULL)
    model = model.to_empty(device="cpu").eval()
    load_state(model, state, str(path))
    return LoadedModel(model, FULL, None, state, "public", str(path), ignored)


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items()
    )


def _read_torch(path: Path) -> Mapping[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            if _looks_like_pickle(path):
                raise InputError(
                    f"{path}: the pickle holds code, which is not run; save the state dict alone with "
                    "torch.save({'network': model.state_dict()}, ...)"
                ) from error
        raise InputError(f"{path}: not a PyTorch checkpoint, or damaged") from error
    except (
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        AttributeError,
        IndexError,
        TypeError,
        OSError,
    ) as error:
        raise InputError(f"{path}: truncated, damaged or not a PyTorch checkpoint") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a checkpoint with named tensors")
    return content


def _looks_like_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(2)
    return zipfile.is_zipfile(path) or (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05")


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: truncated, damaged or not a safetensors file") from error
    return {**facts, "state_dict": state} if isinstance(facts, dict) and facts else state


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(str(name) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
