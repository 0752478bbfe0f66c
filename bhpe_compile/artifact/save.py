"""Writing an artefact folder: built beside its place, then renamed, so that a reader never meets half of one.

What was there before is kept until the new folder stands, and put back when anything fails or Ctrl-C is pressed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bhpe_compile.archive import npz_bytes
from bhpe_compile.artifact.link import headers, link
from bhpe_compile.artifact.load import REFERENCE, check_artifact
from bhpe_compile.artifact.manifest import LIBRARIES, MANIFEST, dump_json, listed_files, make_manifest
from bhpe_compile.artifact.program import Program
from bhpe_compile.artifact.static import static_files
from bhpe_compile.artifact.web import web_files
from bhpe_compile.errors import UsageError
from bhpe_compile.files import beside, exchange, sweep
from bhpe_compile.targets.target import Target

EXECUTABLES = (*LIBRARIES, "driver")


def write_artifact(
    directory: Path,
    program: Program,
    target: Target,
    onnx_bytes: bytes,
    report: Mapping[str, Any],
    reference: Mapping[str, NDArray[Any]] | None,
    compile_info: Mapping[str, Any],
    force: bool = False,
    *,
    static: bool = False,
    embed: bool = False,
    web: bool = False,
) -> dict[str, Any]:
    """Link `program` for `target` and write the artefact folder; returns its manifest.

    reference: arrays by the names of the model's inputs and outputs, or None. compile_info: more keys of the
    manifest (passes, options, versions, model), plain data. static: with a library to link into a program, too.
    embed: with the weights in the libraries as well. web: with a package for browsers and Node. The same arguments
    give the same bytes.
    Raises UsageError (see `check_output`, or a place that cannot be written) and ToolchainError.
    """
    check_output(directory, force)
    linked = link(program, target, embed=embed)
    contents = {
        target.module: linked.module,
        "driver": linked.driver,
        "weights.bin": linked.weights,
        **headers(),
        "model.onnx": onnx_bytes,
        "report.json": dump_json(report),
    }
    if static:
        contents |= static_files(program, target, embed=embed)
    if web:
        contents |= web_files(program.interface, linked.model_id)
    if reference is not None:
        contents[REFERENCE] = npz_bytes(dict(sorted(reference.items())))
    manifest = make_manifest(program, target, linked.model_id, contents, compile_info)
    contents[MANIFEST] = dump_json(manifest)
    _write(directory, contents)
    return manifest


def copy_artifact(source: Path, directory: Path, force: bool = False) -> None:
    """Put the artefact `source`, its hashes checked, where `write_artifact` would have; raises as that does."""
    check_output(directory, force)
    manifest = check_artifact(source)
    _write(directory, {name: (source / name).read_bytes() for name in (*manifest["files"], MANIFEST)})


def _write(directory: Path, contents: Mapping[str, bytes]) -> None:
    try:
        with _replacing(directory.resolve()) as folder:
            for name, content in contents.items():
                (folder / name).write_bytes(content)
                if name in EXECUTABLES:
                    mode = (folder / name).stat().st_mode
                    (folder / name).chmod(mode | (mode & 0o444) >> 2)
    except OSError as error:
        raise UsageError(
            f"{directory}: cannot be written ({error.strerror}); choose another folder"
        ) from error


def check_output(directory: Path, force: bool = False) -> None:
    """Refuse, before any work is done, an output that may not or cannot be written (UsageError).

    An existing folder is replaced when it is empty or holds an artefact and nothing else; `force` replaces any
    folder except one that the user stands in or that is a home folder.
    """
    try:
        real = directory.resolve()
        exists, is_folder = real.exists(), real.is_dir()
        nearest = next(place for place in (real, *real.parents) if place.exists() or place.is_symlink())
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
        raise UsageError(f"{directory}: is no usable place ({error}); choose another folder") from None
    if exists and not is_folder:
        raise UsageError(f"{directory}: is a file; choose another folder")
    if not nearest.is_dir():
        raise UsageError(f"{directory}: {nearest} is not a folder; choose another folder")
    if exists:
        _check_replaceable(directory, real, force)
    parent = real.parent if exists else nearest
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"{directory}: {parent} cannot be written; choose another folder")


def _check_replaceable(directory: Path, real: Path, force: bool) -> None:
    if any(place.is_relative_to(real) for place in _kept()):
        raise UsageError(f"{directory}: is or holds the working or home folder; choose another folder")
    if force or not any(real.iterdir()):
        return
    listed = listed_files(real)
    if listed is None:
        raise UsageError(
            f"{directory}: exists and is not a compiled model; choose another folder, or --force to replace it"
        )
    known = {MANIFEST, *listed}
    others = sorted(path.name for path in real.iterdir() if path.name not in known)
    if others:
        raise UsageError(
            f"{directory}: also holds {others[0]}, which is not part of the compiled model; "
            "move it away, or --force to replace the folder"
        )


def _kept() -> Iterator[Path]:
    """The working and the home folder, where there are such."""
    for place in (Path.cwd, Path.home):
        with contextlib.suppress(OSError, RuntimeError):  # gone, or an account without a home
            yield place()


@contextlib.contextmanager
def _replacing(directory: Path) -> Iterator[Path]:
    """A fresh folder that takes the place of `directory` when the block ends well, and else is removed."""
    fresh, old = beside(directory, "new"), beside(directory, "old")
    sweep(directory)
    made: list[Path] = []
    try:
        for place in reversed([p for p in directory.parents if not p.exists()]):
            place.mkdir()
            made.insert(0, place)
        fresh.mkdir()
        yield fresh
        if directory.exists():
            fresh.chmod(stat.S_IMODE(directory.stat().st_mode))
            if exchange(fresh, directory):
                old = fresh
                return
            directory.rename(old)
        fresh.rename(directory)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        if old.exists() and not directory.exists():
            old.rename(directory)
        for parent in made:
            with contextlib.suppress(OSError):  # somebody else put something there meanwhile
                parent.rmdir()
        raise
    finally:
        if directory.exists():
            shutil.rmtree(old, ignore_errors=True)
