"""The arrays of a pickle, as SMPL's published files are, without running what it says.

Unpickling calls whatever the file names. Here it can name NumPy's arrays, and objects of two packages that such files
hold beside them, which become empty shells: chumpy's (an array is inside, called `x`) and SciPy's sparse matrices
(three arrays and a shape).
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.reading import MalformedError, read_regular

MOST_BYTES = 1 << 30

NUMPY = {
    (module, name)
    for module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("ndarray", "dtype", "_reconstruct", "scalar")
}

SHELLS = ("chumpy.", "scipy.sparse.")


class Shell:
    """An object whose class is not looked for; what the file says of it is in `state`."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


def _made(kind: Any, *_: Any) -> Shell:
    """In the place of `copyreg._reconstructor`, which makes objects in files of the oldest protocol."""
    if kind is not Shell:
        raise MalformedError("makes an object that is none of an array")
    return Shell()


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """NumPy's arrays and shells; MalformedError for everything else."""
        if (module, name) in NUMPY:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if (module, name) == ("_codecs", "encode"):  # how bytes are written by older protocols
            return super().find_class(module, name)
        if name == "_reconstructor" and module in ("copy_reg", "copyreg"):
            return _made
        if name == "object" and module in ("__builtin__", "builtins"):
            return Shell
        if f"{module}.".startswith(SHELLS):
            return Shell
        raise MalformedError(f"names {module}.{name}, which is not run")


class Pickled:
    """The arrays of a pickled dict by name, as an `Archive` has them."""

    def __init__(self, path: Path) -> None:
        """MalformedError for anything but a pickled dict of arrays."""
        import io

        try:
            value = _Reader(io.BytesIO(read_regular(path, MOST_BYTES)), encoding="latin1").load()
        except MalformedError:
            raise
        except OSError:
            raise
        except Exception as error:  # a damaged pickle can end in any error
            raise MalformedError(f"no pickle: {error}") from error
        if not isinstance(value, dict):
            raise MalformedError("holds no arrays by name")
        self._fields = {str(name): field for name, field in value.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """As in an npz."""
        return tuple(f"{name}.npy" for name in self._fields)

    def array(self, name: str, kinds: str) -> NDArray[Any]:
        """The array of a name, of a dtype kind in `kinds`; MalformedError for what is none."""
        array = _dense(self._fields[name])
        if array.dtype.kind not in kinds:
            raise MalformedError(f"holds {array.dtype}")
        return array


def _dense(field: Any) -> NDArray[Any]:
    if isinstance(field, np.ndarray):
        return field
    if isinstance(field, Shell) and isinstance(field.state.get("x"), np.ndarray):
        return np.asarray(field.state["x"])
    if isinstance(field, Shell) and {"data", "indices", "indptr", "_shape"} <= field.state.keys():
        return _columns(field.state)
    raise MalformedError("is no array")


def _columns(state: dict[str, Any]) -> NDArray[np.float64]:
    """A matrix stored by columns (csc): the rows of column k are indices[indptr[k] : indptr[k + 1]]."""
    rows, columns = (int(size) for size in state["_shape"])
    data, indices, starts = (np.asarray(state[name]) for name in ("data", "indices", "indptr"))
    counts = np.diff(starts)
    if (
        rows * columns > MOST_BYTES // 8
        or len(starts) != columns + 1
        or (counts < 0).any()
        or counts.sum() != len(data)
        or len(indices) != len(data)
        or (len(indices) and not 0 <= indices.min() <= indices.max() < rows)
    ):
        raise MalformedError("is a damaged sparse matrix")
    matrix = np.zeros((rows, columns))
    matrix[indices, np.repeat(np.arange(columns), counts)] = data
    return matrix
