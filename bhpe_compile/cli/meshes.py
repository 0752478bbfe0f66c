"""The body behind `run --mesh` and `--draw mesh`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bhpe_compile.artifact.manifest import load_manifest
from bhpe_compile.cli.console import Console
from bhpe_compile.errors import UsageError
from bhpe_compile.evaluate.body_file import SMPL_X
from bhpe_compile.evaluate.default_body import default_body
from bhpe_compile.evaluate.meshes import Mesher, family_of, load_body
from bhpe_compile.evaluate.subjects import PUBLIC, layout_of
from bhpe_compile.evaluate.threads import one_thread

if TYPE_CHECKING:
    from bhpe_compile.networks.interface import Interface

OPEN = "open"
"""The body that this program can make itself."""


@contextmanager
def open_mesher(artifact: Path, body: str | None, interface: Interface, *, quiet: bool) -> Iterator[Mesher]:
    """What poses `body` (a file, "open", or by default the open one) for the network of an artefact.

    UsageError where the open body does not fit it; raises as `load_body` and `default_body`.
    """
    family = family_of(interface)
    if body in (None, OPEN) and family is not None and family != SMPL_X:
        raise UsageError(
            f"the open body is one of {SMPL_X}, and {interface.network} poses {family}: name a file of {family} "
            "with --body"
        )
    if body in (None, OPEN):
        with Console((), quiet=quiet, verbose=False, first_stage="") as console:
            path = default_body(lambda step, fraction: console("body", step, fraction))
    else:
        path = Path(str(body))
    relative = layout_of(load_manifest(artifact)) == PUBLIC
    with one_thread():
        yield Mesher(load_body(path, interface), interface, relative_hands=relative)
