"""Whole folders: the same bytes whatever happens on the way; damage is found. Needs OpenGL through EGL."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bhpe_compile.cli import console
from bhpe_compile.errors import InputError, ToolchainError, UsageError
from bhpe_compile.evaluate.dataset import SynthDataset
from bhpe_compile.evaluate.open import open_dataset
from bhpe_compile.evaluate.synth import store
from bhpe_compile.evaluate.synth.generate import generate
from bhpe_compile.evaluate.synth.render import open_context
from bhpe_compile.processes import python_command
from tests.command import environment, inside

pytest.importorskip("moderngl")
try:
    open_context().release()
except ToolchainError as error:
    pytest.skip(f"no OpenGL: {error}", allow_module_level=True)

COUNT, SHARD, SEED = 11, 4, 5

KILLED = """
import os, signal, sys
from pathlib import Path
from bhpe_compile.evaluate.synth.generate import generate
done = 0
def tick(number):
    global done
    done += number
    if done >= int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
generate(Path(sys.argv[1]), Path(sys.argv[2]), 11, 5, "test", tick=tick, shard=4)
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def whole(body_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "whole"
    told: list[int] = []
    generate(folder, body_path, COUNT, SEED, "test", tick=told.append, shard=SHARD)
    assert sum(told) == COUNT
    return folder


@pytest.mark.parametrize("when", [1, 7])
def test_killed_and_run_again_gives_the_same_bytes(
    when: int, whole: Path, body_path: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    arguments = python_command("-c", KILLED, folder, body_path, str(when))
    killed = subprocess.run(arguments, env=environment(), check=False, timeout=600)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(InputError, match="not finished"):
        SynthDataset(folder)
    (folder / "images" / f"{when:06d}.jpg").write_bytes(b"half a pict")  # as a write that was cut off
    told: list[int] = []
    generate(folder, body_path, COUNT, SEED, "test", tick=told.append, shard=SHARD)
    assert told[0] == when // SHARD * SHARD  # whole shards are kept
    assert sum(told) == COUNT
    assert contents(folder) == contents(whole)


def test_two_processes_give_the_same_bytes(whole: Path, body_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    told: list[int] = []
    generate(folder, body_path, COUNT, SEED, "test", workers=2, tick=told.append, shard=SHARD)
    assert sum(told) == COUNT
    assert contents(folder) == contents(whole)


ABANDONED = """
import os, signal, sys
from pathlib import Path
from bhpe_compile.evaluate.synth.generate import generate
def tick(number):
    if number:
        os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":
    generate(Path(sys.argv[1]), Path(sys.argv[2]), 4000, 5, "test", workers=2, tick=tick, shard=2000)
"""


def test_drawing_processes_end_with_their_parent(body_path: Path, tmp_path: Path) -> None:
    script, folder = tmp_path / "abandoned.py", tmp_path / "set"
    script.write_text(ABANDONED)
    arguments = python_command(script, folder, body_path)
    killed = subprocess.run(arguments, env=environment(), check=False, capture_output=True, timeout=600)
    # The processes hold the captured streams open, so that was the end of all of them.
    assert killed.returncode == -signal.SIGKILL
    assert 0 < len(list((folder / "images").iterdir())) < 1000


def test_a_shorter_set_is_the_beginning_of_a_longer_one(whole: Path, body_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "short"
    generate(folder, body_path, 5, SEED, "test", shard=SHARD)
    long = contents(whole)
    for name, data in contents(folder).items():
        if name.startswith("images") or name == "labels/00000.npz":
            assert data == long[name]


def test_check_accepts_what_was_written_and_the_dataset_reads_it(whole: Path, body_path: Path) -> None:
    assert store.check(whole)["count"] == COUNT
    data = open_dataset(whole, "test")
    assert len(data) == COUNT
    assert (data.name, data.body, data.vertices(0)) == ("synth", body_path, None)
    assert data.image(10).shape == (512, 384, 3)
    labels = data.labels(10)
    assert labels.pose.dtype == np.float32
    assert labels.visible.dtype == np.bool_
    assert (labels.betas != data.labels(9).betas).any()
    with pytest.raises(IndexError):
        data.labels(COUNT)
    with pytest.raises(UsageError, match="is the test split"):
        open_dataset(whole, "train")


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    for name, data in contents(whole).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["images/000009.jpg", "labels/00001.npz"])
def test_one_flipped_bit_is_found(name: str, copy: Path) -> None:
    flip(copy / name)
    with pytest.raises(InputError, match=name):
        store.check(copy)
    data = SynthDataset(copy)
    with pytest.raises(InputError, match=name):
        data.image(9 if "image" in name else 5)


@pytest.mark.parametrize("name", ["images/000009.jpg", "labels/00001.npz"])
def test_a_missing_file_is_found_and_drawn_again(name: str, copy: Path, whole: Path, body_path: Path) -> None:
    (copy / name).unlink()
    with pytest.raises(InputError, match="is missing"):
        store.check(copy)
    if "images" in name:
        with pytest.raises(InputError, match="is missing"):
            SynthDataset(copy)
    generate(copy, body_path, COUNT, SEED, "test", shard=SHARD)
    assert contents(copy) == contents(whole)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "is damaged"),
        (b"[]", "does not describe"),
        (b'{"format": "other"}', "does not describe"),
        (b'{"format": "bhpe-synth", "version": 9}', "version 9"),
    ],
)
def test_damaged_manifests_are_one_clear_line(text: bytes, message: str, copy: Path) -> None:
    (copy / store.MANIFEST).write_bytes(text)
    with pytest.raises(InputError, match=message):
        SynthDataset(copy)


def test_another_set_in_the_folder_is_refused(copy: Path, body_path: Path, tmp_path: Path) -> None:
    before = contents(copy)
    with pytest.raises(UsageError, match="holds another set: seed is 5, asked for is 6"):
        generate(copy, body_path, COUNT, 6, "test", shard=SHARD)
    with pytest.raises(UsageError, match="split is 'test'"):
        generate(copy, body_path, COUNT, SEED, "train", shard=SHARD)
    assert contents(copy) == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        generate(tmp_path / "full", body_path, 1, 0, "test")


def test_a_full_disk_is_one_clear_line(
    body_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "000000.jpg").symlink_to("/dev/full")
    monkeypatch.setattr(store, "prepare", lambda folder, config: [0])  # it would refuse the folder
    with pytest.raises(UsageError, match=r"No space left on device.*again to go on"):
        generate(tmp_path, body_path, 1, SEED, "test")


def test_the_commands(body_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 1e9)  # a busy machine would get more lines
    folder = tmp_path / "set"
    arguments = ("data", "synth", "--count", 3, "--seed", 9, "--body", body_path, "-o", folder)
    made = inside(*map(str, arguments), "--format", "json")
    assert made.code == 0
    assert "3, train split, seed 9" in made.stderr
    assert made.stderr.count("people: ") == 1  # a log gets one line a stage
    told = json.loads(made.stdout)
    assert (told["count"], told["seed"], told["split"], told["shard"]) == (3, 9, "train", store.SHARD)
    checked = inside("data", "check", folder, "--format", "json")
    assert checked.code == 0
    assert json.loads(checked.stdout)["ok"] is True
    assert inside("data", "check", folder, "-q").stdout == ""
    other = inside("data", "synth", "--count", "4", "--seed", "9", "--body", body_path, "-o", folder)
    assert other.code == 2
    assert other.stderr.startswith("error: ")
    assert other.stderr.count("\n") == 1
    flip(folder / "images" / "000001.jpg")
    damaged = inside("data", "check", folder)
    assert damaged.code == 3
    assert "000001.jpg" in damaged.stderr


def test_commands_refuse_what_is_no_set(tmp_path: Path) -> None:
    assert inside("data", "check", tmp_path).code == 2
    assert inside("data", "synth", "--count", "0", "-o", tmp_path / "x").code == 2
    assert (
        inside("data", "synth", "--count", "1", "--body", tmp_path / "none.npz", "-o", tmp_path / "x").code
        == 2
    )
    assert not (tmp_path / "x").exists()
    assert list(tmp_path.iterdir()) == []


def test_films_are_part_of_what_a_set_is() -> None:
    plain = store.Config(4, 0, "test", "body", 2, {})
    assert "film" not in plain.to_dict()
    assert store.Config(4, 0, "test", "body", 2, {}, film=2).to_dict()["film"] == 2
