"""What a model file is, told by its content: which door it goes through, or what to do where it has none.

Only the first bytes are read, a zip archive's list of entries, and of protocol buffers the heads of the outermost
fields. Nothing heavy is imported: a foreign file is named before PyTorch, whose import takes seconds.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.reading import open_regular

CHECKPOINT, ONNX = "checkpoint", "onnx"
"""The doors there are."""

EXPORT = "export it to ONNX (torch.onnx.export) in the program that made it"

HEAD = 512
"""Bytes at the start of a file that tell its format."""

FIELDS = 64
"""Outermost fields of a protocol buffer that are looked at."""


@dataclass(frozen=True)
class Kind:
    """A format. `door` is the frontend that reads it, "" where none does; `advice` says then what to do."""

    name: str
    door: str = ""
    advice: str = EXPORT


TORCH = Kind("a PyTorch checkpoint", CHECKPOINT)
SAFETENSORS = Kind("a safetensors file", CHECKPOINT)
ONNX_MODEL = Kind("an ONNX model", ONNX)
EMPTY = Kind("empty", advice="copy or download the model again")
TEXT = Kind("a text file", advice="name the model")
UNKNOWN = Kind("damaged, or of a kind that is not known here", advice="checkpoints and ONNX models are read")

TORCHSCRIPT = Kind(
    "a TorchScript archive", advice="export it with torch.export, or with torch.onnx.export to ONNX"
)
EXPORTED = Kind("an archive of torch.export (.pt2)", advice=EXPORT)
KERAS = Kind("a Keras model", advice="convert it to ONNX with tf2onnx or keras.Model.export(format='onnx')")
TFLITE = Kind("a TFLite model", advice="convert it to ONNX with tf2onnx")
NUMPY = Kind("an archive of NumPy arrays", advice="that is data; name the model")
ZIP = Kind("a zip archive without a model", advice="unpack it and name the model in it")
GRAPH_DEF = Kind("a graph of TensorFlow or Paddle", advice="convert it to ONNX with tf2onnx or paddle2onnx")

MAGIC: tuple[tuple[int, bytes, Kind], ...] = (
    (4, b"TFL3", TFLITE),
    (4, b"ORTM", Kind("a model in ONNX Runtime's own format", advice="name the ONNX file it was made of")),
    (0, b"\x89HDF\r\n\x1a\n", KERAS),
    (0, b"GGUF", Kind("a GGUF file", advice="language models are no networks of this compiler")),
    (0, b"ptrt", Kind("a TensorRT engine", advice="name the ONNX file it was made of")),
    (0, b"RKNN", Kind("an RKNN model", advice="name the ONNX file it was made of")),
    (0, b"7767517\n", Kind("an ncnn parameter file", advice="name the ONNX file it was made of")),
    (0, b"\x89PNG", Kind("a picture", advice="the model comes first, pictures go to --calibrate and `run`")),
    (
        0,
        b"\xff\xd8\xff",
        Kind("a picture", advice="the model comes first, pictures go to --calibrate and `run`"),
    ),
    (0, b"\x1f\x8b", Kind("a gzip file", advice="unpack it first")),
    (0, b"\x7fELF", Kind("a program or library", advice="name the model it was made of")),
    (0, b"version https://git-lfs", Kind("a Git LFS pointer", advice="fetch the model with `git lfs pull`")),
)
"""(offset, bytes, kind)."""


def kind_of(path: Path) -> Kind:
    """The kind of the file `path`. UsageError where it is not there or cannot be read; folders have kinds, too."""
    try:
        if path.is_dir():
            return _folder(path)
        with open_regular(path) as file:
            head = file.read(HEAD)
            size = os.fstat(file.fileno()).st_size
            return _content(file, head, size)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


def require_door(path: Path, *doors: str) -> str:
    """The door of `doors` that the file `path` goes through. InputError, one line, where it goes through none."""
    kind = kind_of(path)
    if kind.door in doors:
        return kind.door
    if kind.door == ONNX:
        raise InputError(f"{path}: is {kind.name}; this command reads checkpoints, `compile` takes it")
    raise InputError(f"{path}: is {kind.name}; {kind.advice}")


def _folder(path: Path) -> Kind:
    if (path / "saved_model.pb").is_file():
        return Kind("a TensorFlow SavedModel", advice=TFLITE.advice)
    if (path / "manifest.json").is_file() and (path / "weights.bin").is_file():
        return Kind("a compiled model", advice="name the model it was made of")
    if path.suffix == ".mlpackage":
        return Kind("a Core ML package", advice="name the model it was made of")
    return Kind("a folder", advice="name the model's file in it")


def _content(file: BinaryIO, head: bytes, size: int) -> Kind:
    for offset, magic, kind in MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return kind
    if head.startswith(b"PK\x03\x04"):
        return _archive(file)
    if head.lstrip().startswith((b"<?xml", b"<net")) and b"<net" in head:
        return Kind("an OpenVINO model", advice="name the ONNX file it was made of")
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= length <= size - 8:
        return SAFETENSORS
    if head[:1] == b"\x80" or head[257:262] == b"ustar":  # as torch wrote before it wrote zip archives
        return TORCH
    if not head:
        return EMPTY
    found = _protocol_buffer(file, size)
    return TEXT if found is UNKNOWN and _is_text(head) else found


def _archive(file: BinaryIO) -> Kind:
    """The kind of a zip archive, by the names of its entries."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return TORCH  # cut off: the reader of checkpoints says so
    inner = {name.partition("/")[2] or name for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return TORCHSCRIPT
    if inner & {"archive_format", "serialized_exported_program.json", "models/model.json"}:
        return EXPORTED
    if "data.pkl" in inner:
        return TORCH
    if "model.weights.h5" in names:
        return KERAS
    if names and all(name.endswith(".npy") for name in names):
        return NUMPY
    return ZIP


IR_VERSION, GRAPH, OPSETS, FUNCTIONS = 1, 7, 8, 25
"""Fields of ONNX's ModelProto: a number, and messages."""

VARINT, FIXED64, MESSAGE, FIXED32 = 0, 1, 2, 5
"""How a field of a protocol buffer is stored."""

KNOWN = {IR_VERSION: VARINT, 2: MESSAGE, 3: MESSAGE, 4: MESSAGE, 5: VARINT, 6: MESSAGE, GRAPH: MESSAGE}
KNOWN |= {OPSETS: MESSAGE, 14: MESSAGE, 20: MESSAGE, FUNCTIONS: MESSAGE, 26: MESSAGE}
"""The fields of ModelProto and how each is stored."""


def _protocol_buffer(file: BinaryIO, size: int) -> Kind:
    """ONNX where the outermost fields are those of a ModelProto with a graph; a GraphDef or ProgramDesc where they are
    messages in a list."""
    fields = list(_fields(file, size))
    found = {(number, wire) for number, wire, _ in fields}
    if not fields or any(end > size for _, _, end in fields):
        return UNKNOWN
    if {(IR_VERSION, VARINT), (GRAPH, MESSAGE)} <= found and all(KNOWN.get(n) == wire for n, wire in found):
        return ONNX_MODEL
    return (
        GRAPH_DEF if {number for number, _ in found} <= {1, 2, 3, 4, 5} and (1, MESSAGE) in found else UNKNOWN
    )


def _fields(file: BinaryIO, size: int) -> Iterator[tuple[int, int, int]]:
    """(number, how it is stored, where it ends) of each outermost field, `FIELDS` of them at most; their contents are
    skipped. What is no protocol buffer ends with a field that is known to no format, (0, 0, size + 1)."""
    file.seek(0)
    for _ in range(FIELDS):
        if file.tell() >= size:
            return
        key = _varint(file)
        wire = -1 if key is None else key & 7
        length = {FIXED64: 8, FIXED32: 4}.get(wire, 0)
        if wire in (VARINT, MESSAGE):
            value = _varint(file)
            length = size + 1 if value is None else value if wire == MESSAGE else 0
        end = file.tell() + length
        if key is None or key >> 3 == 0 or wire not in (VARINT, FIXED64, MESSAGE, FIXED32):
            yield 0, 0, size + 1
            return
        yield key >> 3, wire, end
        file.seek(end)


def _varint(file: BinaryIO) -> int | None:
    """A number of at most ten bytes, None where the file ends before it does."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if not byte[0] & 0x80:
            return value
    return None


def _is_text(head: bytes) -> bool:
    """Whether the first bytes are readable text in UTF-8."""
    try:
        words = head.decode(errors="ignore" if len(head) == HEAD else "strict")
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\t\r\n" for letter in words)
