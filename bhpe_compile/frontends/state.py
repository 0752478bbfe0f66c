"""State dicts: loaded into modules with every fault named, and packed for files of binary networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bhpe_compile.errors import InputError
from bhpe_compile.networks.layers.binary import BinaryLayer
from bhpe_compile.networks.layers.rounding import fits_float16

SHOWN = 5
"""Names listed in an error before it says how many more there are."""

COUNTERS = "num_batches_tracked"
"""Batch norm's counters: used by no computation here, so a checkpoint may lack them."""

VARIANCES = "running_var"
"""Batch norm's variances."""


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` into `module`; InputError names missing, unexpected, misshapen and non-finite tensors, and
    negative variances."""
    own = module.state_dict()
    missing = [name for name in own if name not in state and not name.endswith(COUNTERS)]
    unexpected = [name for name in state if name not in own]
    if missing or unexpected:
        parts = [f"{len(missing)} missing: {shown_names(missing)}"] if missing else []
        parts += [f"{len(unexpected)} unexpected: {shown_names(unexpected)}"] if unexpected else []
        raise InputError(f"{source}: not a checkpoint of this network; {'; '.join(parts)}")
    misshapen = [
        f"{name} has shape {tuple(value.shape)}, the network needs {tuple(own[name].shape)}"
        for name, value in state.items()
        if value.shape != own[name].shape
    ]
    if misshapen:
        raise InputError(f"{source}: {shown_names(misshapen)}")
    check_finite(state, source)
    negative = [n for n, value in state.items() if n.endswith(VARIANCES) and bool((value < 0).any())]
    if negative:
        raise InputError(f"{source}: a variance below 0 in {shown_names(negative)}; the file is damaged")
    module.load_state_dict(dict(state), strict=False)


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """InputError that names tensors with NaN or infinity, as float32, which is what is computed with."""
    broken = [name for name, value in state.items() if not bool(torch.isfinite(value.float()).all())]
    if broken:
        raise InputError(
            f"{source}: NaN or infinity in {shown_names(broken)}, as float32; the training that wrote it diverged"
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


def shown_names(names: Sequence[str]) -> str:
    shown = ", ".join(str(name) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
