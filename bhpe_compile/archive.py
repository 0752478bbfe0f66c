"""Zip archives, and NumPy's .npz, whose bytes follow from their contents: no time stamps, the same on every system."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def zip_bytes(
    contents: Mapping[str, bytes], *, mode: int = 0o600, compress: bool = True, zip64: bool = False
) -> bytes:
    """An archive of files by path, in the order of `contents`. `mode`: their permissions. `zip64`: with headers that
    allow for more than 4 GB a file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path, content in contents.items():
            entry = zipfile.ZipInfo(path)  # its date is the epoch of the format, 1980-01-01
            entry.create_system = 3  # Unix, wherever this runs
            entry.external_attr = mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
            with archive.open(entry, "w", force_zip64=zip64) as file:
                file.write(content)
    return stream.getvalue()


def npz_bytes(arrays: Mapping[str, NDArray[Any]], *, compress: bool = True) -> bytes:
    """An .npz file of arrays by name, in the order of `arrays`."""
    import numpy as np

    members = {}
    for name, array in arrays.items():
        member = io.BytesIO()
        np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
        members[f"{name}.npy"] = member.getvalue()
    return zip_bytes(members, compress=compress, zip64=True)  # as numpy.savez writes them
