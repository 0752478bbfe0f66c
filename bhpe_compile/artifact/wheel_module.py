"""A compiled pose network: pictures in, poses out. Needs NumPy and nothing else.

    model = Model()
    outputs = model.run(rgb, box=(x, y, width, height))      # rgb: uint8 [H, W, 3]; outputs by name, copies
    model.joints()["left_wrist"]                             # x, y in pixels of that picture

This file is the whole Python side of a wheel that bhpe-compile wrote. bhpe-compile's own `runtime.Model` is a
`FrameModel` as well, so both behave the same.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

__all__ = ["CTensor", "Frame", "FrameModel", "Model", "ModelError"]

HERE = Path(__file__).parent
ABI = 6
CHECKS = 3  # BHPE_CHECK_WEIGHTS + BHPE_CHECK_OUTPUTS
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


class Frame(ctypes.Structure):
    """struct bhpe_frame."""

    _fields_ = (("x", ctypes.c_double), ("y", ctypes.c_double), ("scale", ctypes.c_double))


class FrameModel:
    """A loaded model that is handed frames. One thread uses it at a time (a lock sees to it); several models are
    independent of each other.

    `_library` has the C functions by their names without `bhpe_`, `_handle` is the model.
    """

    _library: Any
    _handle: ctypes.c_void_p
    _lock: threading.Lock

    frame = (0.0, 0.0, 1.0)
    """x, y and scale: pixel (i, j) of the network's input is (x + i scale, y + j scale) of the last picture."""

    def run_frame(
        self, rgb: NDArray[np.uint8], box: Sequence[float] | None = None, focal: float | None = None
    ) -> dict[str, NDArray[Any]]:
        """All outputs by name (copies) for a picture uint8 [H, W, 3] in RGB and the person's box in it: x, y, width,
        height in pixels, by default all of it. focal: the picture's focal length in pixels, by default its diagonal."""
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise ModelError(f"a picture is uint8 [H, W, 3], not {rgb.dtype} {list(rgb.shape)}")
        rgb = np.ascontiguousarray(rgb)
        height, width = rgb.shape[:2]
        frame = Frame()
        with self._lock:
            self._open()
            self._check(self._library.set_focal(self._handle, ctypes.c_double(focal or 0.0)))
            self._check(
                self._library.set_frame(
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
            self._check(self._library.run(self._handle))
            return self._outputs()

    def joints(self) -> dict[str, tuple[float, float]]:
        """Where the last run found each joint, in pixels of its picture; empty for a network without keypoints."""
        with self._lock:
            self._open()
            count = self._library.joint_count(self._handle)
            if not count:
                return {}
            places = (ctypes.c_double * (2 * count))()
            self._check(self._library.joints(self._handle, ctypes.byref(Frame(*self.frame)), places))
            names = [self._library.joint_name(self._handle, ctypes.c_int32(i)).decode() for i in range(count)]
        return {name: (places[2 * i], places[2 * i + 1]) for i, name in enumerate(names)}

    def _outputs(self) -> dict[str, NDArray[Any]]:
        count = self._library.output_count(self._handle)
        return dict(self._output(index) for index in range(count))

    def _output(self, index: int) -> tuple[str, NDArray[Any]]:
        tensor = CTensor()
        self._check(self._library.get_output(self._handle, ctypes.c_int32(index), ctypes.byref(tensor)))
        content = ctypes.string_at(tensor.data, tensor.nbytes)
        values = np.frombuffer(content, TYPES[tensor.type, tensor.bits])
        return tensor.name.decode(), values.reshape(tensor.shape[: tensor.ndim]).copy()

    def _open(self) -> None:
        if not self._handle:
            raise ModelError("the model is closed")

    def _check(self, status: int) -> None:
        if status:
            raise ModelError(_text(self._library.last_error()))

    def close(self) -> None:
        """Release the memory; the model cannot be used after that."""
        with self._lock:
            if self._handle:
                self._library.destroy(self._handle)
                self._handle = ctypes.c_void_p()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Functions:
    """The C functions of a library by their names without `bhpe_`."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        for name in ("last_error", "joint_name"):
            getattr(self, name).restype = ctypes.c_char_p

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, f"bhpe_{name}")


def _text(message: bytes | str) -> str:
    return message.decode() if isinstance(message, bytes) else message


class Model(FrameModel):
    """The model of this package."""

    def __init__(self, threads: int = 1) -> None:
        """Check the files' hashes and load them; ModelError says what is wrong."""
        self._handle = ctypes.c_void_p()
        self._lock = threading.Lock()
        files = json.loads((HERE / "manifest.json").read_bytes())["files"]
        for name in ("model.so", "weights.bin"):
            if hashlib.sha256((HERE / name).read_bytes()).hexdigest() != files[name]["sha256"]:
                raise ModelError(
                    f"{HERE / name}: was changed after it was compiled; install the package again"
                )
        try:
            self._library = _Functions(HERE / "model.so")
        except OSError as error:
            raise ModelError(f"{HERE / 'model.so'}: cannot be loaded on this machine ({error})") from None
        if self._library.abi_version() != ABI:
            raise ModelError("the library has another interface than this package; install it again")
        self._check(self._library.create_from_path(bytes(HERE / "weights.bin"), ctypes.byref(self._handle)))
        self._check(self._library.set_checks(self._handle, ctypes.c_int32(CHECKS)))
        self._check(self._library.set_threads(self._handle, ctypes.c_int32(threads)))

    def run(self, rgb: NDArray[np.uint8], box: Sequence[float] | None = None) -> dict[str, NDArray[Any]]:
        """All outputs by name (copies) for a picture uint8 [H, W, 3] and the person's box in it (default: all)."""
        return self.run_frame(rgb, box)
