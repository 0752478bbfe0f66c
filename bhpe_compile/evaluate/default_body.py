"""The default body: made from the open Anny once, then kept in the user's cache.

The file's name carries a hash of what determines its content: the builder's version, Anny's and the seed.
"""

from __future__ import annotations

import hashlib
import tempfile
from importlib import metadata
from pathlib import Path

from bhpe_compile.cache import CACHE_VARIABLE, cache_folder
from bhpe_compile.errors import ToolchainError, UsageError
from bhpe_compile.evaluate.anny_body.build import BUILDER_VERSION, SEED, Told, build


def default_body(told: Told | None = None) -> Path:
    """The open body's file; the first call builds it, which takes ten seconds to a minute and tells `told` how far
    it is.

    Raises ToolchainError where anny is not installed and the cache has no body, UsageError where the cache cannot be
    written.
    """
    path = cache_folder() / f"SMPLX_ANNY-{_key()}.npz"  # the smplx package goes by the first word
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):  # better now than after building
                pass
            build(path, told)
        except OSError as error:
            raise UsageError(
                f"{path.parent}: cannot be written: {error.strerror or error}; ${CACHE_VARIABLE} moves the cache"
            ) from error
    return path


def resolve_body(spec: Path | None, told: Told | None = None) -> Path:
    """`spec`, or the default body where there is none."""
    return default_body(told) if spec is None else spec


def _key() -> str:
    try:
        version = metadata.version("anny")
    except metadata.PackageNotFoundError as error:
        raise ToolchainError(
            "the default body is made from the package anny, which is not installed: "
            "pip install '.[eval]', or name a body file of your own"
        ) from error
    return hashlib.sha256(f"{BUILDER_VERSION} {version} {SEED}".encode()).hexdigest()[:16]
