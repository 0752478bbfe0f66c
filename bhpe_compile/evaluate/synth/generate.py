"""Write a whole set, in one or several processes; each draws whole shards."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.errors import BhpeError, ToolchainError, UsageError
from bhpe_compile.evaluate.body_file import read_body_file
from bhpe_compile.evaluate.synth import store
from bhpe_compile.evaluate.synth.photo.scenery import find_backgrounds
from bhpe_compile.evaluate.synth.sensor import jpeg
from bhpe_compile.evaluate.synth.streams import VERSION, WITH_BACKGROUNDS, Split
from bhpe_compile.files import sha256
from bhpe_compile.processes import safe_children

PACKAGES = ("numpy", "pillow", "torch", "moderngl")


def generate(
    folder: Path,
    body: Path,
    count: int,
    seed: int,
    split: Split,
    workers: int = 1,
    tick: store.Tick | None = None,
    shard: int = store.SHARD,
    film: int = 1,
    version: int = VERSION,
    backgrounds: Sequence[Path] = (),
) -> store.Config:
    """Draw `count` pictures of people into `folder`, going on where an earlier run was stopped.

    `tick` is called with the number of pictures done, those of an earlier run first. `shard`: people in a label file.
    `film`: so many pictures, one after the other, are frames of one person's film. `version`: of `streams.VERSIONS`;
    `backgrounds`: folders of photographs for version 3. Raises UsageError (the folder holds something else; no
    photographs), InputError (the body, a photograph) and ToolchainError (no OpenGL).
    """
    read_body_file(body)  # complains of a wrong file before anything is written
    photographs: dict[str, Path] = {}
    if backgrounds:
        if version not in WITH_BACKGROUNDS:
            raise UsageError(f"version {version} of the generator takes no backgrounds; --generator 3 does")
        photographs = find_backgrounds(backgrounds, split)
    config = store.Config(
        count, seed, split, sha256(body), version, made_with(), shard, film, tuple(photographs)
    )
    pictures = tuple(photographs.values())
    missing = store.prepare(folder, config)
    if tick is not None:
        tick(count - sum(len(config.people(k)) for k in missing))
    if workers > 1 and len(missing) > 1:
        _in_processes(folder, body, config, pictures, missing, min(workers, len(missing)), tick)
    elif missing:
        _draw(folder, body, config, pictures, missing, tick)
    store.finish(folder, config)
    return config


def made_with() -> dict[str, str]:
    """Versions of what may move a pixel: packages and the OpenGL driver."""
    from bhpe_compile.evaluate.synth.render import driver

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            raise ToolchainError(f"drawing people needs the package {name}: pip install '.[eval]'") from None
    return {**versions, "opengl": driver()}


def _draw(
    folder: Path,
    body: Path,
    config: store.Config,
    pictures: Sequence[Path],
    shards: list[int],
    tick: store.Tick | None,
) -> None:
    import torch

    from bhpe_compile.evaluate.body import BodyModel
    from bhpe_compile.evaluate.synth.person import Generator

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order would end in other bits
    try:
        split: Split = "test" if config.split == "test" else "train"
        generator = Generator(BodyModel.load(body), config.seed, split, config.generator, pictures)

        def people(shard: int) -> Iterator[tuple[bytes, dict[str, NDArray[Any]]]]:
            for index in config.people(shard):
                person = (
                    generator.person(index)
                    if config.film == 1
                    else generator.frame(index // config.film, index % config.film)
                )
                yield jpeg(person.image), {k: np.asarray(v) for k, v in asdict(person.labels).items()}
                if tick is not None:
                    tick(1)

        for shard in shards:
            store.write_shard(folder, shard, people(shard), config.people(shard).start)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot write there ({error.strerror or error}); run the same command again to go on"
        ) from error
    finally:
        torch.set_num_threads(threads)


def _work(
    folder: Path, body: Path, config: store.Config, pictures: Sequence[Path], shards: list[int], told: Any
) -> None:
    """A worker process: tells 1 for each picture, or the error that ended it."""
    os.environ["LP_NUM_THREADS"] = "0"  # llvmpipe draws in the process's own thread
    parent = os.getppid()

    def tick(number: int) -> None:
        if os.getppid() != parent:  # killed: nobody is left to draw for
            os._exit(1)
        told.put(number)

    try:
        _draw(folder, body, config, pictures, shards, tick)
    except BhpeError as error:
        told.put(error)


def _in_processes(
    folder: Path,
    body: Path,
    config: store.Config,
    pictures: Sequence[Path],
    shards: list[int],
    workers: int,
    tick: store.Tick | None,
) -> None:
    context = multiprocessing.get_context("spawn")
    with safe_children():
        told = context.Queue()
        started = [
            context.Process(
                target=_work, args=(folder, body, config, pictures, shards[k::workers], told), daemon=True
            )
            for k in range(workers)
        ]
        for process in started:
            process.start()
    left = sum(len(config.people(shard)) for shard in shards)
    try:
        while left:
            try:
                news = told.get(timeout=1.0)
            except Empty:
                if any(process.exitcode not in (None, 0) for process in started):
                    raise ToolchainError(
                        f"a drawing process ended with status {[p.exitcode for p in started]}; "
                        "run the same command again to go on, with fewer --workers"
                    ) from None
                continue
            if isinstance(news, BhpeError):
                raise news
            left -= news
            if tick is not None:
                tick(news)
        for process in started:
            process.join()
    finally:
        for process in started:
            if process.is_alive():
                process.terminate()
