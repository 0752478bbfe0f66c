"""A compiled pose network: pictures in, SMPL-X parameters out. Needs NumPy and nothing else.

    model = Model()
    outputs = model.run(rgb, box=(x, y, width, height))      # rgb: uint8 [H, W, 3]
    outputs["smplx_body_pose"]                               # float32, a copy

This file is the whole Python side of a wheel that bhpe-compile wrote.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CTensor", "Model", "ModelError"]

HERE = Path(__file__).parent
ABI = 4
TYPES = {
    (0, 8): "i1",
    (0, 32): "i4",
    (0, 64): "i8",
    (1, 8): "u1",
    (1, 16): "u2",
    (2, 16): "f2",
    (2, 32): "f4",
}


class ModelError(RuntimeError):
    """The package is damaged, the processor cannot run it, or a call went wrong; the text says which."""


class CTensor(ctypes.Structure):
    """struct bhpe_tensor."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("nbytes", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
        ("ndim", ctypes.c_int32),
        ("type", ctypes.c_int32),
        ("bits", ctypes.c_int32),
        ("constant", ctypes.c_int32),
        ("id", ctypes.c_int32),
    )


class _Frame(ctypes.Structure):
    _fields_ = (("x", ctypes.c_double), ("y", ctypes.c_double), ("scale", ctypes.c_double))


class Model:
    """A loaded model. One thread uses it at a time; several models are independent of each other."""

    def __init__(self, threads: int = 1) -> None:
        """Check the files' hashes and load them; ModelError says what is wrong."""
        self._handle = ctypes.c_void_p()
        files = json.loads((HERE / "manifest.json").read_bytes())["files"]
        for name in ("model.so", "weights.bin"):
            if hashlib.sha256((HERE / name).read_bytes()).hexdigest() != files[name]["sha256"]:
                raise ModelError(
                    f"{HERE / name}: was changed after it was compiled; install the package again"
                )
        try:
            self._library = ctypes.CDLL(str(HERE / "model.so"))
        except OSError as error:
            raise ModelError(f"{HERE / 'model.so'}: cannot be loaded on this machine ({error})") from None
        self._library.bhpe_last_error.restype = ctypes.c_char_p
        if self._library.bhpe_abi_version() != ABI:
            raise ModelError("the library has another interface than this package; install it again")
        self._check(
            self._library.bhpe_create_from_path(bytes(HERE / "weights.bin"), ctypes.byref(self._handle))
        )
        self._check(self._library.bhpe_set_threads(self._handle, ctypes.c_int32(threads)))
        self.frame = (0.0, 0.0, 1.0)
        """x, y and scale: pixel (i, j) of the network's input is (x + i scale, y + j scale) of the last picture."""

    def run(
        self, rgb: NDArray[np.uint8], box: tuple[float, float, float, float] | None = None
    ) -> dict[str, NDArray[Any]]:
        """All outputs by name for a picture uint8 [H, W, 3] and the person's box in it (default: all of it)."""
        if not self._handle:
            raise ModelError("the model is closed")
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise ModelError(f"a picture is uint8 [H, W, 3], not {rgb.dtype} {list(rgb.shape)}")
        rgb = np.ascontiguousarray(rgb)
        height, width = rgb.shape[:2]
        frame = _Frame()
        self._check(
            self._library.bhpe_set_frame(
                self._handle,
                ctypes.c_void_p(rgb.ctypes.data),
                ctypes.c_int32(width),
                ctypes.c_int32(height),
                ctypes.c_int64(3 * width),
                None if box is None else (ctypes.c_double * 4)(*box),
                ctypes.byref(frame),
            )
        )
        self.frame = (frame.x, frame.y, frame.scale)
        self._check(self._library.bhpe_run(self._handle))
        count = self._library.bhpe_output_count(self._handle)
        return dict(self._output(index) for index in range(count))

    def _output(self, index: int) -> tuple[str, NDArray[Any]]:
        tensor = CTensor()
        self._check(self._library.bhpe_get_output(self._handle, ctypes.c_int32(index), ctypes.byref(tensor)))
        content = ctypes.string_at(tensor.data, tensor.nbytes)
        values = np.frombuffer(content, TYPES[tensor.type, tensor.bits])
        return tensor.name.decode(), values.reshape(tensor.shape[: tensor.ndim]).copy()

    def _check(self, status: int) -> None:
        if status:
            raise ModelError(self._library.bhpe_last_error().decode())

    def close(self) -> None:
        """Release the memory; the model cannot be used after that."""
        if self._handle:
            self._library.bhpe_destroy(self._handle)
            self._handle = ctypes.c_void_p()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
