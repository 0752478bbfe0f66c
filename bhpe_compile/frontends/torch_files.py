"""Files of tensors: what `torch.save` wrote, and safetensors.

Nothing in a file is ever executed: `weights_only=True`.
"""

from __future__ import annotations

import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

import safetensors
import torch
from torch import Tensor

from bhpe_compile.errors import InputError
from bhpe_compile.frontends.state import shown_names
from bhpe_compile.reading import MalformedError, open_regular, parse_json
from bhpe_compile.reading_arrays import check_safetensors, open_archive

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


def read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        facts = parse_json(check_safetensors(path).get("facts", "{}"))
        with _plain_name(path) as place, safetensors.safe_open(place, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except MalformedError as error:
        raise InputError(f"{path}: damaged, or not a safetensors file: {error}") from error
    except Exception as error:  # safetensors raises its own kind, torch others
        raise InputError(f"{path}: truncated, damaged or not a safetensors file") from error
    return {**facts, "state_dict": state} if isinstance(facts, dict) and facts else state


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


def check_dtypes(path: Path, state: Mapping[str, Tensor]) -> None:
    """InputError that names tensors of numbers which are not computed with here: complex ones, 8-bit floats."""
    others = [f"{name} ({value.dtype})" for name, value in state.items() if value.dtype not in DTYPES]
    if others:
        raise InputError(
            f"{path}: {shown_names(others)}: numbers of this kind are not read; save the weights as float32"
        )


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
