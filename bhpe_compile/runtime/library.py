"""ctypes declarations of bhpe.h, and loading a library whose bytes were checked."""

from __future__ import annotations

import _ctypes
import ctypes as c
import os
from pathlib import Path
from typing import Any

from bhpe_compile.artifact.load import read_file
from bhpe_compile.artifact.manifest import ABI_VERSION, Manifest
from bhpe_compile.artifact.wheel_module import CTensor
from bhpe_compile.errors import InputError

LIBRARY = "model.so"

__all__ = ["ABI_VERSION", "LIBRARY", "CStep", "CTensor", "Library"]


class CStep(c.Structure):
    """struct bhpe_step."""

    _fields_ = (
        ("symbol", c.c_char_p),
        ("kind", c.c_char_p),
        ("layer", c.c_char_p),
        ("arguments", c.c_int32),
    )


_MODEL, _INDEX, _TENSOR = c.c_void_p, c.c_int32, c.POINTER(CTensor)

SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "bhpe_abi_version": (c.c_int32, ()),
    "bhpe_model_id": (c.c_char_p, ()),
    "bhpe_create": (c.c_int32, (c.c_void_p, c.c_uint64, c.POINTER(_MODEL))),
    "bhpe_create_from_path": (c.c_int32, (c.c_char_p, c.POINTER(_MODEL))),
    "bhpe_memory_bytes": (c.c_uint64, ()),
    "bhpe_create_in": (c.c_int32, (c.c_void_p, c.c_uint64, c.c_void_p, c.c_uint64, c.POINTER(_MODEL))),
    "bhpe_embedded_weights": (c.c_void_p, (c.POINTER(c.c_uint64),)),
    "bhpe_create_embedded": (c.c_int32, (c.POINTER(_MODEL),)),
    "bhpe_destroy": (None, (_MODEL,)),
    "bhpe_input_count": (c.c_int32, (_MODEL,)),
    "bhpe_output_count": (c.c_int32, (_MODEL,)),
    "bhpe_get_input": (c.c_int32, (_MODEL, _INDEX, _TENSOR)),
    "bhpe_get_output": (c.c_int32, (_MODEL, _INDEX, _TENSOR)),
    "bhpe_set_frame": (
        c.c_int32,
        (_MODEL, c.c_void_p, c.c_int32, c.c_int32, c.c_int64, c.POINTER(c.c_double), c.c_void_p),
    ),
    "bhpe_set_focal": (c.c_int32, (_MODEL, c.c_double)),
    "bhpe_to_frame": (None, (c.c_void_p, c.POINTER(c.c_double), c.POINTER(c.c_double))),
    "bhpe_joint_count": (c.c_int32, (_MODEL,)),
    "bhpe_joint_name": (c.c_char_p, (_MODEL, _INDEX)),
    "bhpe_joints": (c.c_int32, (_MODEL, c.c_void_p, c.POINTER(c.c_double))),
    "bhpe_set_checks": (c.c_int32, (_MODEL, c.c_int32)),
    "bhpe_set_threads": (c.c_int32, (_MODEL, c.c_int32)),
    "bhpe_get_threads": (c.c_int32, (_MODEL,)),
    "bhpe_run": (c.c_int32, (_MODEL,)),
    "bhpe_last_error": (c.c_char_p, ()),
    "bhpe_step_count": (c.c_int32, (_MODEL,)),
    "bhpe_get_step": (c.c_int32, (_MODEL, _INDEX, c.POINTER(CStep))),
    "bhpe_step_argument": (c.c_int32, (_MODEL, _INDEX, _INDEX, _TENSOR)),
    "bhpe_run_step": (c.c_int32, (_MODEL, _INDEX, c.POINTER(c.c_void_p))),
}
"""Result and argument types of every function of the interface."""


class Library:
    """A loaded model.so. Attribute access reaches its functions."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Load the library of the artefact at `path`; InputError when it is damaged or of another interface.

        It is loaded from memory: what runs is what was checked, and compiling again into the same folder
        within one process never meets the old library under the same name.
        """
        content = read_file(path, manifest, LIBRARY)
        # dlopen knows libraries by name: the descriptor stays open, so that its number is not used again
        self._fd = os.memfd_create(LIBRARY, os.MFD_CLOEXEC)
        self._library: c.CDLL | None = None
        try:
            with os.fdopen(os.dup(self._fd), "wb") as stream:
                stream.write(content)
            self._library = c.CDLL(f"/proc/self/fd/{self._fd}")
            self._declare(self._library)
        except OSError as error:
            self.close()
            raise InputError(f"{path / LIBRARY}: cannot be loaded on this machine ({error})") from None
        except AttributeError as error:
            self.close()
            raise InputError(f"{path / LIBRARY}: is not a compiled model ({error})") from None
        version = self.abi_version()
        if version != ABI_VERSION:
            self.close()
            raise InputError(
                f"{path / LIBRARY}: has C interface {version}, this version of bhpe-compile speaks {ABI_VERSION}; "
                "compile the model again"
            )

    @staticmethod
    def _declare(library: c.CDLL) -> None:
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments

    def __getattr__(self, name: str) -> Any:
        """`library.run` is the C function `bhpe_run`."""
        if self._library is None:
            raise ValueError("the library is closed")
        return getattr(self._library, f"bhpe_{name}")

    def last_error(self) -> str:
        """The message of the last call of this thread that failed."""
        message = self.__getattr__("last_error")()
        return bytes(message).decode("utf-8", errors="replace")

    def close(self) -> None:
        """Unload; no model of this library may be alive."""
        if self._library is not None:
            handle, self._library = self._library._handle, None
            _ctypes.dlclose(handle)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
