"""The body behind `run --mesh` and `--draw mesh`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bhpe_compile.artifact.manifest import load_manifest
from bhpe_compile.cli.console import Console
from bhpe_compile.cli.options import existing_file
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.body_file import SMPL, SMPL_X
from bhpe_compile.evaluate.code_meshes import CodeDecoder, CodeMesher, codes_of, read_tables
from bhpe_compile.evaluate.default_body import default_body
from bhpe_compile.evaluate.meshes import Mesher, family_of, load_body
from bhpe_compile.evaluate.subjects import PUBLIC, layout_of
from bhpe_compile.evaluate.threads import one_thread

if TYPE_CHECKING:
    from bhpe_compile.networks.interface import Interface

OPEN = "open"
"""The body that this program can make itself."""


@dataclass(frozen=True)
class Decoding:
    """Where the decoder of a network that tells codes is: its checkpoint, and the folder of its connection tables."""

    decoder: Path | None = None
    tables: Path | None = None


def _code_mesher(decoding: Decoding, body: str | None, interface: Interface) -> Mesher:
    needed = {
        "--decoder FILE (the checkpoint of Mesh-VQ-VAE)": decoding.decoder,
        "--tables DIR (its connection tables)": decoding.tables,
        "--body FILE (a body of SMPL, for the faces)": None if body == OPEN else body,
    }
    missing = [name for name, given in needed.items() if given is None]
    if missing or decoding.decoder is None or decoding.tables is None:
        raise UsageError(
            f"{interface.network} tells codes of a mesh; to decode them name {', '.join(missing)}"
        )
    from bhpe_compile.frontends.torch_files import is_state, read_torch

    content = read_torch(existing_file(decoding.decoder, "decoder"))
    state = content.get("model", content)
    if not is_state(state):
        raise InputError(f"{decoding.decoder}: has no state dict under 'model'")
    arrays = {name.removeprefix("module."): value.float().numpy() for name, value in state.items()}
    output = codes_of(interface)
    parts = 0 if output is None else math.prod(output.shape)
    decoder = CodeDecoder(arrays, read_tables(decoding.tables), parts, str(decoding.decoder))
    return CodeMesher(decoder, BodyModel.load(Path(str(body)), SMPL), interface)


@contextmanager
def open_mesher(
    artifact: Path, body: str | None, interface: Interface, decoding: Decoding | None = None, *, quiet: bool
) -> Iterator[Mesher]:
    """What poses `body` (a file, "open", or by default the open one) for the network of an artefact, or decodes its
    codes.

    UsageError where the open body does not fit it, and where files of the decoder are not named; raises as
    `load_body` and `default_body`.
    """
    decoding = decoding or Decoding()
    if codes_of(interface) is not None:
        yield _code_mesher(decoding, body, interface)
        return
    if decoding.decoder is not None or decoding.tables is not None:
        raise UsageError(
            f"--decoder and --tables are for networks that tell codes: {interface.network} does not"
        )
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
