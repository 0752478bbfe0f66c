"""Bad input: the right exit code, exactly one line on stderr, no traceback, and nothing written."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.command import Outcome, inside, listing


def assert_one_error(outcome: Outcome, code: int, *says: str) -> None:
    """One `error:` line that mentions each of `says`."""
    assert outcome.stderr.startswith("error: "), outcome.stderr
    assert outcome.stderr.count("\n") == 1, outcome.stderr
    assert outcome.code == code, outcome.stderr
    assert outcome.stdout == ""
    for word in says:
        assert word in outcome.stderr


class Shell:
    """Unpickling this would run a command."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch executed",)


def empty(path: Path, example: Path) -> None:
    path.touch()


def truncated(path: Path, example: Path) -> None:
    path.write_bytes((example / "model.pt").read_bytes()[:100_000])


def text(path: Path, example: Path) -> None:
    path.write_text("not a checkpoint\n" * 100)


def noise(path: Path, example: Path) -> None:
    path.write_bytes(bytes(range(256)) * 64)


def picture(path: Path, example: Path) -> None:
    path.write_bytes((example / "person.png").read_bytes())


def raw_pickle_with_code(path: Path, example: Path) -> None:
    path.write_bytes(pickle.dumps(Shell()))


def checkpoint_with_code(path: Path, example: Path) -> None:
    torch.save({"network": {"module.backbone.conv1.weight": Shell()}}, path)


def wrong_architecture(path: Path, example: Path) -> None:
    torch.save({"network": {"module.features.0.weight": torch.zeros(64, 3, 3, 3)}}, path)


def list_of_numbers(path: Path, example: Path) -> None:
    torch.save([1, 2, 3], path)


def not_a_number(path: Path, example: Path) -> None:
    content = torch.load(example / "model.pt", weights_only=True)
    assert poison(content), "the example holds no float weights"
    torch.save(content, path)


def poison(content: object) -> bool:
    """Put one NaN into the first float matrix found in nested dicts."""
    if isinstance(content, torch.Tensor) and content.is_floating_point() and content.dim() > 1:
        content.view(-1)[0] = float("nan")
        return True
    return isinstance(content, dict) and any(poison(value) for value in content.values())


@pytest.mark.parametrize(
    "write",
    [
        empty,
        truncated,
        text,
        noise,
        picture,
        raw_pickle_with_code,
        checkpoint_with_code,
        wrong_architecture,
        list_of_numbers,
        not_a_number,
    ],
    ids=lambda write: write.__name__,
)
def test_damaged_model(write: Callable[[Path, Path], None], example: Path, tmp_path: Path) -> None:
    write(tmp_path / "bad.pt", example)
    outcome = inside("bad.pt", "--target", "x86", cwd=tmp_path)
    assert_one_error(outcome, 3, "bad.pt")
    assert listing(tmp_path) == ["bad.pt"]


def test_wrong_architecture_names_keys(example: Path, tmp_path: Path) -> None:
    wrong_architecture(tmp_path / "bad.pt", example)
    outcome = inside("bad.pt", "--target", "x86", cwd=tmp_path)
    assert_one_error(outcome, 3, "network: module.features.0.weight", "hand4whole")


def test_not_a_number_names_the_tensor(example: Path, tmp_path: Path) -> None:
    not_a_number(tmp_path / "bad.pt", example)
    assert_one_error(inside("bad.pt", "--target", "x86", cwd=tmp_path), 3, ".weight")


def test_missing_model(tmp_path: Path) -> None:
    assert_one_error(inside("gone.pt", "--target", "x86", cwd=tmp_path), 2, "gone.pt")
    assert listing(tmp_path) == []


@pytest.mark.parametrize(("word", "nearest"), [("x68", "x86"), ("arm-a67", "arm-a76"), ("AMR", "arm")])
def test_unknown_target_suggests_the_nearest(word: str, nearest: str, example: Path, tmp_path: Path) -> None:
    outcome = inside(example / "model.pt", "--target", word, cwd=tmp_path)
    assert_one_error(outcome, 2, word, nearest)
    assert listing(tmp_path) == []


def test_output_below_a_file(example: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = inside(example / "model.pt", "--target", "x86", "-o", "file/out", cwd=tmp_path)
    assert_one_error(outcome, 2, "file")
    assert listing(tmp_path) == ["file"]


def test_output_is_a_file(example: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    outcome = inside(example / "model.pt", "--target", "x86", "-o", "file", cwd=tmp_path)
    assert_one_error(outcome, 2, "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_without_permission(example: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    outcome = inside(example / "model.pt", "--target", "x86", "-o", "locked/out", cwd=tmp_path)
    assert_one_error(outcome, 2, "locked")


@pytest.mark.parametrize("name", ["weights.bin", "model.so"])
@pytest.mark.parametrize("command", ["run", "verify"])
def test_artifact_with_one_byte_changed(name: str, command: str, copy: Path, example: Path) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    arguments = [copy, example / "person.png"] if command == "run" else [copy]
    assert_one_error(inside(command, *arguments), 3, name)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": {}}'])
def test_manifest_that_is_none(content: str, copy: Path, example: Path) -> None:
    (copy / "manifest.json").write_text(content)
    assert_one_error(inside("run", copy, example / "person.png"), 3, "manifest")


@pytest.mark.parametrize("name", ["weights.bin", "model.so", "manifest.json"])
def test_artifact_with_a_file_missing(name: str, copy: Path, example: Path) -> None:
    (copy / name).unlink()
    assert_one_error(inside("run", copy, example / "person.png"), 3, name)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_picture_that_is_none(content: bytes, copy: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    outcome = inside("run", copy, tmp_path / "bad.png", "-o", tmp_path / "pose.json")
    assert_one_error(outcome, 3, "bad.png")
    assert not (tmp_path / "pose.json").exists()


def test_truncated_picture(copy: Path, example: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes((example / "person.png").read_bytes()[:50_000])
    assert_one_error(inside("run", copy, tmp_path / "bad.png"), 3, "bad.png")


def test_missing_picture(copy: Path) -> None:
    assert_one_error(inside("run", copy, "gone.png"), 2, "gone.png")
