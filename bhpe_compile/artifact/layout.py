"""The bytes of weights.bin, the identity of a model, and what must hold before either is written.

weights.bin, little-endian: 8 bytes magic "BHPEWTS\\0", u32 format version, u32 header size (64), u64 payload size,
32 bytes model id, two u32 CRC-32 of the payload's halves, then the payload, which every weight slot points into. The
id is the SHA-256 of the payload, of the tables and of the object code: a library refuses weights that were written for
another one. The checksums find damaged bytes where nothing else is at hand (`bhpe_set_checks`).
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib

import numpy as np

from bhpe_compile.artifact.program import ALIGNMENT, Program, TensorSlot
from bhpe_compile.errors import BhpeError

WEIGHTS_MAGIC = b"BHPEWTS\0"
WEIGHTS_VERSION = 2

HEADER = struct.Struct("<8sIIQ32sII")

DTYPES = (
    "bool",
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
)
"""Element types the C interface can name."""


def check_program(program: Program) -> None:
    """Refuse tables that would let a kernel touch memory outside the arena or the weights (BhpeError, exit 1)."""
    limits = {"arena": program.arena_bytes, "weights": len(program.weights)}
    for index, slot in enumerate(program.tensors):
        _check_slot(index, slot, limits[slot.storage])
    count = len(program.tensors)
    for number, step in enumerate(program.steps):
        if len(step.args) != len(step.roles):
            raise BhpeError(f"internal: step {number} {step.symbol}: {len(step.args)} arguments, other roles")
        if not all(0 <= arg < count for arg in step.args):
            raise BhpeError(f"internal: step {number} {step.symbol}: argument out of range")
        if not all(word.isprintable() for word in (step.symbol, step.kind, step.layer, *step.roles)):
            raise BhpeError(f"internal: step {number} {step.symbol!r} has a name with control characters")
    for port in (*program.inputs, *program.outputs):
        if not 0 <= port.tensor < count:
            raise BhpeError(f"internal: port {port.name}: tensor out of range")
        if not port.name.isprintable() or not port.name or "/" in port.name:  # the driver makes files of them
            raise BhpeError(f"internal: {port.name!r} cannot name an input or output")
    for port in program.inputs:
        if program.tensors[port.tensor].storage != "arena":
            raise BhpeError(f"internal: input {port.name} lies in the weights")


def _check_slot(index: int, slot: TensorSlot, limit: int) -> None:
    if slot.dtype not in DTYPES:
        raise BhpeError(f"internal: tensor {index} has type {slot.dtype}, which the C interface cannot name")
    if slot.offset % ALIGNMENT:
        raise BhpeError(f"internal: tensor {index} is not {ALIGNMENT}-byte aligned")
    if slot.nbytes != math.prod(slot.shape) * np.dtype(slot.dtype).itemsize:
        raise BhpeError(f"internal: tensor {index} of {slot.shape} {slot.dtype} has {slot.nbytes} bytes")
    if slot.offset < 0 or slot.offset + slot.nbytes > limit:
        raise BhpeError(f"internal: tensor {index} ends outside the {slot.storage}")


def model_id(program: Program) -> bytes:
    """32 bytes that name exactly this program."""
    digest = hashlib.sha256()
    facts = (
        program.tensors,
        program.steps,
        program.inputs,
        program.outputs,
        program.arena_bytes,
        program.workspace_bytes,
    )
    for part in (repr(facts).encode(), program.weights, *program.objects):
        digest.update(struct.pack("<Q", len(part)))
        digest.update(part)
    return digest.digest()


def weights_header(program: Program) -> bytes:
    """The 64 bytes in front of the payload."""
    return HEADER.pack(
        WEIGHTS_MAGIC,
        WEIGHTS_VERSION,
        HEADER.size,
        len(program.weights),
        model_id(program),
        *checksums(program.weights),
    )


def checksums(payload: bytes) -> tuple[int, int]:
    """CRC-32 of the first half of the payload (a multiple of 8 bytes) and of the rest, as checksum.c computes them."""
    half = len(payload) // 16 * 8
    view = memoryview(payload)
    return zlib.crc32(view[:half]), zlib.crc32(view[half:])


def weights_file(program: Program) -> bytes:
    """The contents of weights.bin."""
    return weights_header(program) + program.weights
