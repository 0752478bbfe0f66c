"""Archives: read by everybody, the same bytes for the same contents."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bhpe_compile.archive import npz_bytes, zip_bytes

ARRAYS: dict[str, NDArray[Any]] = {
    "b": np.float32(3) * np.ones(()),
    "a": np.zeros((0, 3), np.uint8),
    "c": np.arange(6).reshape(2, 3).T,  # Fortran's order
    "text": np.array(["x", "yz"]),
}


@pytest.mark.parametrize("compress", [True, False])
def test_arrays_of_any_shape_come_back(compress: bool) -> None:
    with np.load(io.BytesIO(npz_bytes(ARRAYS, compress=compress)), allow_pickle=False) as archive:
        assert archive.files == list(ARRAYS)
        for name, array in ARRAYS.items():
            found = archive[name]
            assert (found.dtype, found.shape, found.flags.c_contiguous) == (array.dtype, array.shape, True)
            np.testing.assert_array_equal(found, array)


def test_the_order_in_memory_changes_nothing() -> None:
    same = {name: np.asfortranarray(array).reshape(array.shape) for name, array in ARRAYS.items()}
    assert npz_bytes(same) == npz_bytes(ARRAYS)


def test_files_carry_their_mode_and_no_time() -> None:
    content = zip_bytes({"a/b.txt": b"abc" * 100, "empty": b""}, mode=0o644)
    assert content == zip_bytes({"a/b.txt": b"abc" * 100, "empty": b""}, mode=0o644)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["a/b.txt", "empty"]
        assert archive.read("a/b.txt") == b"abc" * 100
        for entry in archive.infolist():
            assert (entry.external_attr >> 16, entry.date_time, entry.create_system) == (
                0o644,
                (1980, 1, 1, 0, 0, 0),
                3,
            )


def test_arrays_are_smaller_compressed() -> None:
    zeros = {"zeros": np.zeros(10_000)}
    assert len(npz_bytes(zeros)) < 1000 < 80_000 < len(npz_bytes(zeros, compress=False))
