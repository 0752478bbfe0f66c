"""Vertices of PLY meshes (Turk 1994): ASCII and binary, vertices first, as SMPL-X fits are published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.errors import InputError
from bhpe_compile.reading import read_regular

TYPES = {
    **{"char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2"},
    **{"ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4"},
    **{"float": "f4", "float32": "f4", "double": "f8", "float64": "f8"},
}
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}


def read_vertices(path: Path) -> NDArray[np.float32]:
    """float32 [V, 3]. Raises InputError where the file is missing, damaged or of a kind not known."""
    try:
        data = read_regular(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        return _parse(data)
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(f"{path}: is no PLY mesh that can be read ({error})") from None


def _parse(data: bytes) -> NDArray[np.float32]:
    head, mark, body = data.partition(b"end_header")
    if not data.startswith(b"ply") or not mark:
        raise ValueError("no PLY header")
    body = body.partition(b"\n")[2]
    lines = [line.split() for line in head.decode("ascii").splitlines() if line.strip()]
    style = next(line[1] for line in lines if line[0] == "format")
    elements = [i for i, line in enumerate(lines) if line[0] == "element"]
    first = lines[elements[0]]
    if first[1] != "vertex":
        raise ValueError("vertices do not come first")
    count, last = int(first[2]), elements[1] if len(elements) > 1 else len(lines)
    fields = [(line[2], TYPES[line[1]]) for line in lines[elements[0] + 1 : last] if line[0] == "property"]
    if style == "ascii":
        rows = np.array([line.split() for line in body.decode("ascii").splitlines()[:count]], np.float64)
        if rows.shape != (count, len(fields)):
            raise ValueError(f"{rows.shape} values, expected {(count, len(fields))}")
        columns = {name: rows[:, i] for i, (name, _) in enumerate(fields)}
    else:
        layout = np.dtype([(name, ORDERS[style] + kind) for name, kind in fields])
        table = np.frombuffer(body, layout, count)
        columns = {name: table[name] for name, _ in fields}
    return np.stack([columns[axis] for axis in "xyz"], 1).astype(np.float32)
