"""People to evaluate on or to learn from: a folder, or the open set, drawn once and kept in the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bhpe_compile.cache import cache_folder
from bhpe_compile.errors import InputError
from bhpe_compile.evaluate.dataset import Dataset, SynthDataset
from bhpe_compile.evaluate.default_body import resolve_body
from bhpe_compile.evaluate.evaluate import BATCH, Examples, open_body
from bhpe_compile.evaluate.open import open_dataset
from bhpe_compile.files import sha256

if TYPE_CHECKING:
    from bhpe_compile.evaluate.synth.streams import Split

SYNTH = "synth"
COUNT, SEED = 500, 0
"""Of the open set's test split, unless asked otherwise."""

FILMS, FRAMES = 20, 10
"""Films that are drawn to measure jitter on, and the frames of each."""

EMULATED_COUNT = 4
"""People that are evaluated where an emulator runs an artefact: it takes seconds to a minute for each."""

PEOPLE_PER_SECOND, BYTES_PER_PERSON = 20, 65_000
"""Of one core that draws; docs/data.md says how that was measured."""

Told = Callable[[str, float], None]
"""(what is being prepared, fraction of it that is done)."""


@dataclass(frozen=True)
class Drawing:
    """People that have to be drawn first: how many, about how long, how big, and where they stay."""

    count: int
    seconds: float
    nbytes: int
    folder: Path


def drawing_ahead(data: str, count: int | None, seed: int) -> Drawing | None:
    """What `open_people` will draw with these arguments; None where it draws nothing."""
    from bhpe_compile.evaluate.synth.streams import VERSION

    wanted = count or COUNT
    folder = cache_folder()
    if data != SYNTH or any(folder.glob(f"test-{VERSION}-{seed}-{wanted}-*/labels/*.npz")):
        return None
    return Drawing(wanted, wanted / PEOPLE_PER_SECOND, wanted * BYTES_PER_PERSON, folder)


def open_people(
    data: str,
    count: int | None,
    seed: int,
    body: Path | None,
    told: Told = lambda *_: None,
    *,
    at_most: bool = False,
) -> Examples:
    """`data` is "synth" or a folder; `count` None: 500 drawn people, or all of a folder. `at_most`: fewer will do.

    body: the body to pose; None takes the set's own, else the open one. Raises UsageError (no such folder, more people
    than there are), InputError (damaged, or labelled for another body) and ToolchainError (an extra is missing).
    """
    if data == SYNTH:
        path = resolve_body(body, told)
        dataset = synthetic("test", count or COUNT, seed, path, told)
    else:
        dataset = open_dataset(Path(data), body=body)
        path = body or dataset.body or resolve_body(None, told)
    require_own_body(dataset, path)
    wanted = count or len(dataset)
    return Examples(dataset, open_body(path), min(wanted, len(dataset)) if at_most else wanted, BATCH)


def open_films(examples: Examples, data: str, seed: int, told: Told = lambda *_: None) -> Examples | None:
    """Films to measure jitter on: those of the set itself where it was drawn with `--film`, `FILMS` drawn ones beside
    the open set, None for other sets."""
    from bhpe_compile.evaluate.jitter import film_length

    dataset, body = examples.dataset, examples.bodies.body.source
    if data == SYNTH:
        dataset = synthetic("test", FILMS * FRAMES, seed, body, told, film=FRAMES)
    length = film_length(dataset)
    return Examples(dataset, examples.bodies, len(dataset), length) if length > 1 else None


def require_own_body(dataset: Dataset, body: Path) -> None:
    """InputError where poses and shapes of a drawn set were made with another body than `body`."""
    if isinstance(dataset, SynthDataset) and dataset.manifest["body"] != sha256(body):
        raise InputError(
            f"{dataset.folder}: was made with another body than {body.name}; name that one with --body, or draw the "
            "set again with `data synth`"
        )


def synthetic(
    split: Split,
    count: int,
    seed: int,
    body: Path,
    told: Told = lambda *_: None,
    workers: int = 1,
    film: int = 1,
) -> Dataset:
    """The first `count` people of a split of the open set, or as many frames of films of `film` frames; those that the
    cache lacks are drawn."""
    from bhpe_compile.evaluate.synth.generate import generate
    from bhpe_compile.evaluate.synth.streams import VERSION

    films = "" if film == 1 else f"film{film}-"
    folder = cache_folder() / f"{split}-{films}{VERSION}-{seed}-{count}-{sha256(body)[:16]}"
    done = 0

    def tick(more: int) -> None:
        nonlocal done
        done += more
        told(f"{done} of {count} people drawn", done / count)

    generate(folder, body, count, seed, split, workers, tick, film=film)
    return open_dataset(folder)
