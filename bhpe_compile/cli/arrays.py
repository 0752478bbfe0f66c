"""Inputs of a network as arrays: what `--input NAME=FILE.npy` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bhpe_compile.cli.log import LOG
from bhpe_compile.errors import InputError, UsageError, near

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bhpe_compile.runtime.board import Board

NPY, NPZ = ".npy", ".npz"


def own_names(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The names that inputs and outputs have in the file that was compiled, by those in the artefact."""
    model = manifest.get("model")
    names = model.get("names") if isinstance(model, Mapping) else None
    if not isinstance(names, Mapping):
        return {}
    return {str(name): str(own) for name, own in names.items()}


def read_inputs(words: Sequence[str], manifest: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Arrays by the names of inputs, of words NAME=FILE.npy; NAME is that of the artefact, or of the file it was
    compiled from.

    UsageError for a word, a name or a file that is not there, InputError for a damaged file or another shape or dtype.
    """
    from bhpe_compile.reading import MalformedError
    from bhpe_compile.reading_arrays import read_npy

    ports = {port["name"]: port for port in manifest["inputs"]}
    known = {own: name for name, own in own_names(manifest).items() if name in ports}
    known |= {name: name for name in ports}
    arrays: dict[str, NDArray[Any]] = {}
    for word in words:
        said, _, file = word.rpartition("=")
        if not said or not file.endswith(NPY):
            raise UsageError(f"--input {word}: say NAME=FILE.npy")
        if said not in known:
            hint = near(said, known, f"there are {', '.join(ports)}")
            raise UsageError(f"--input {said}: the model has no such input; {hint}")
        name, path = known[said], Path(file)
        if name in arrays:
            raise UsageError(f"--input {said}: is said twice")
        try:
            array = read_npy(path)
        except FileNotFoundError:
            raise UsageError(f"{path}: no such file") from None
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
        except MalformedError as error:
            raise InputError(f"{path}: no array: {error}") from None
        port = ports[name]
        if (list(array.shape), str(array.dtype)) != (port["shape"], port["dtype"]):
            raise InputError(
                f"{path}: input {said} must be {port['dtype']} {port['shape']}, not {array.dtype} {list(array.shape)}"
            )
        arrays[name] = array
    return arrays


def describe_inputs(manifest: Mapping[str, Any]) -> str:
    """How all inputs are said, for an error."""
    own = own_names(manifest)
    return " ".join(
        f"--input {own.get(port['name'], port['name'])}=FILE.npy ({port['dtype']} {port['shape']})"
        for port in manifest["inputs"]
    )


def run_arrays(
    artifact: Path,
    words: Sequence[str],
    picture: str | None,
    output: Path | None,
    threads: int,
    board: Board | None,
    *,
    quiet: bool,
) -> None:
    """One run on arrays, and on a picture for the inputs that are left; the outputs go to an .npz, or out as JSON."""
    import json
    import time

    from bhpe_compile.archive import npz_bytes
    from bhpe_compile.artifact import load_manifest
    from bhpe_compile.cli.files import write_files
    from bhpe_compile.runtime import load_picture, make_feeds, open_session
    from bhpe_compile.runtime.results import to_lists

    manifest = load_manifest(artifact)
    feeds: Mapping[str, NDArray[Any]] = read_inputs(words, manifest)
    if picture is None and len(feeds) < len(manifest["inputs"]):
        raise UsageError(f"give every input as an array: {describe_inputs(manifest)}")
    with open_session(artifact, threads=threads, board=board) as session:
        if picture is not None:
            feeds = make_feeds(session.interface, load_picture(picture), feeds)
        start = time.perf_counter()
        outputs = session.execute(feeds).outputs
        spent, executed = time.perf_counter() - start, session.executed
    names = own_names(manifest)
    named = {names.get(name, name): array for name, array in sorted(outputs.items())}
    if output is not None and output.suffix == NPZ:
        write_files({output: npz_bytes(named)})
    elif output is not None:
        write_files({output: (json.dumps(to_lists(named)) + "\n").encode()})
    else:
        click.echo(json.dumps(to_lists(named)))
    if not quiet:
        LOG.message(f"ran {executed} in {spent * 1000:.0f} ms" + (f"; wrote {output}" if output else ""))
