"""The folder a set is written to, so that it can be killed at any moment and gone on with.

    manifest.json       what the set is; its `shards` hold the SHA-256 of the label files, once all are written
    images/000000.jpg   384x512
    labels/00000.npz    256 people; `image_sha256` [n, 32] are the hashes of their pictures

A shard's pictures are written first, its labels last and at once (written beside, then renamed): where there are
labels, everything of the shard is there. What an interrupted run left is simply written again, to the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.archive import npz_bytes
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.files import sha256, write_atomically
from bhpe_compile.reading import MalformedError, read_json
from bhpe_compile.reading_arrays import read_npz

FORMAT = "bhpe-synth"
FORMAT_VERSION = 1
SHARD = 256
"""People in a label file, unless the manifest says otherwise."""

MANIFEST = "manifest.json"

Tick = Callable[[int], None]
"""Called with the number of pictures just finished."""


@dataclass(frozen=True)
class Config:
    """What determines a set. `made_with` are the versions of everything that may move a pixel; `film` is how many
    pictures, one after the other, show the same person, who moves slowly; `backgrounds` are the SHA-256 of the
    photographs behind the people."""

    count: int
    seed: int
    split: str
    body: str
    generator: int
    made_with: dict[str, str]
    shard: int = SHARD
    film: int = 1
    backgrounds: tuple[str, ...] = ()

    @property
    def shards(self) -> int:
        """How many label files there are."""
        return -(-self.count // self.shard)

    def people(self, shard: int) -> range:
        """Whom a shard holds."""
        return range(shard * self.shard, min((shard + 1) * self.shard, self.count))

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        fields = {"format": FORMAT, "version": FORMAT_VERSION, **asdict(self)}
        if self.film == 1:
            del fields["film"]
        if self.backgrounds:
            fields["backgrounds"] = list(self.backgrounds)
        else:
            del fields["backgrounds"]
        return fields


def image_path(folder: Path, index: int) -> Path:
    """Where a picture is."""
    return folder / "images" / f"{index:06d}.jpg"


def label_path(folder: Path, shard: int) -> Path:
    """Where the labels of a shard are."""
    return folder / "labels" / f"{shard:05d}.npz"


def prepare(folder: Path, config: Config) -> list[int]:
    """Make the folder, or go on with it; returns the shards that are not there yet.

    Raises UsageError where the folder holds something else, or cannot be written.
    """
    manifest = folder / MANIFEST
    try:
        if manifest.exists():
            _same(folder, read_manifest(folder), config)
        elif folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder}: is not empty and no set of pictures; name another folder")
        for name in ("images", "labels"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for part in (p for place in (".", "images", "labels") for p in folder.glob(f"{place}/*.part")):
            part.unlink()
        if not manifest.exists():
            _write_manifest(folder, config, None)
    except OSError as error:
        raise UsageError(f"{folder}: cannot write there ({error.strerror or error})") from error
    return [shard for shard in range(config.shards) if not _there(folder, config, shard)]


def _there(folder: Path, config: Config, shard: int) -> bool:
    return label_path(folder, shard).exists() and all(
        image_path(folder, index).exists() for index in config.people(shard)
    )


def _same(folder: Path, found: dict[str, Any], config: Config) -> None:
    before = found.get("backgrounds") or []
    if before != list(config.backgrounds):
        raise UsageError(
            f"{folder}: holds another set: its backgrounds are {_photographs(before)}, asked for are "
            f"{'others' if config.backgrounds and before else _photographs(config.backgrounds)}; name the same "
            "--backgrounds, or another folder"
        )
    for key, wanted in config.to_dict().items():
        if found.get(key) != wanted:
            raise UsageError(
                f"{folder}: holds another set: {key} is {found.get(key)!r}, asked for is {wanted!r}; "
                "name another folder or remove this one"
            )


def _photographs(hashes: Sequence[str]) -> str:
    return f"{len(hashes)} photographs" if hashes else "none"


def write_shard(
    folder: Path, shard: int, people: Iterator[tuple[bytes, dict[str, NDArray[Any]]]], first: int
) -> None:
    """Pictures, then labels. `people` yields a JPEG file and the labels by name."""
    rows: list[dict[str, NDArray[Any]]] = []
    for index, (picture, labels) in enumerate(people, first):
        write_atomically(image_path(folder, index), picture)
        digest = np.frombuffer(hashlib.sha256(picture).digest(), np.uint8)
        rows.append({**labels, "image_sha256": digest})
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    write_atomically(label_path(folder, shard), npz_bytes(stacked, compress=False))


def finish(folder: Path, config: Config) -> None:
    """Write the hashes of all shards into the manifest."""
    _write_manifest(folder, config, [sha256(label_path(folder, shard)) for shard in range(config.shards)])


def _write_manifest(folder: Path, config: Config, shards: list[str] | None) -> None:
    data = {**config.to_dict(), "shards": shards}
    write_atomically(folder / MANIFEST, (json.dumps(data, indent=1) + "\n").encode())


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest as it is. Raises UsageError (none there) and InputError (damaged, another format)."""
    path = folder / MANIFEST
    try:
        data = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{folder}: holds no {MANIFEST}; `bhpe-compile data synth` writes such folders"
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None
    except MalformedError as error:
        raise InputError(f"{path}: is damaged ({error})") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{path}: does not describe a set of pictures (no format {FORMAT!r})")
    if data.get("version") != FORMAT_VERSION:
        raise InputError(f"{path}: has format version {data.get('version')!r}; {FORMAT_VERSION} is known")
    data.setdefault("shard", SHARD)
    shards = data.get("shards")
    if (
        not all(type(data.get(name)) is int and data[name] > 0 for name in ("count", "shard"))
        or not isinstance(data.get("split"), str)
        or not isinstance(data.get("body"), str)
        or not isinstance(shards, list | None)
        or (shards is not None and len(shards) != -(-data["count"] // data["shard"]))
    ):
        raise InputError(f"{path}: is damaged; remove the folder and run `data synth` again")
    return dict(data)


def read_shard(folder: Path, shard: int) -> dict[str, NDArray[Any]]:
    """The arrays of a label file. Raises InputError where it is missing or damaged."""
    path = label_path(folder, shard)
    try:
        return read_npz(path)
    except FileNotFoundError:
        raise InputError(f"{path}: is missing; run the `data synth` that wrote the folder again") from None
    except (OSError, MalformedError) as error:
        raise InputError(f"{path}: is damaged ({error})") from None


def check(folder: Path, tick: Tick | None = None) -> dict[str, Any]:
    """Compare every file with its hash; returns the manifest.

    Raises InputError naming the first file that is missing or differs, and for a set that is not finished.
    """
    manifest = read_manifest(folder)
    hashes, count, size = manifest.get("shards"), manifest["count"], manifest["shard"]
    if hashes is None:
        raise InputError(f"{folder}: is not finished; run the same `data synth` again to go on")
    for shard, expected in enumerate(hashes):
        path = label_path(folder, shard)
        if not path.exists() or sha256(path) != expected:
            raise InputError(
                f"{path}: is missing or not what was written; remove it and run `data synth` again"
            )
        digests = read_shard(folder, shard)["image_sha256"]
        for index, digest in enumerate(digests, shard * size):
            picture = image_path(folder, index)
            if not picture.exists() or sha256(picture) != digest.tobytes().hex():
                raise InputError(
                    f"{picture}: is missing or not what was written; remove {path} and run `data synth` again"
                )
            if tick is not None:
                tick(1)
    if len(hashes) != -(-count // size):
        raise InputError(f"{folder / MANIFEST}: lists {len(hashes)} shards for {count} people")
    return manifest
