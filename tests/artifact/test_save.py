"""Writing artefacts: complete or not at all, never over somebody's own files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bhpe_compile.artifact import check_artifact, check_output, load_reference, save
from bhpe_compile.errors import BhpeError, UsageError
from bhpe_compile.files import exchange
from bhpe_compile.targets import get_target
from tests.artifact.folders import HOST, linked, write
from tests.artifact.programs import expected, small_program, some_input
from tests.command import FILES, listing


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_files(artifact: Path) -> None:
    assert listing(artifact) == FILES
    manifest = json.loads((artifact / "manifest.json").read_text())
    assert manifest["format"] == "bhpe-artifact"
    assert manifest["target"] == HOST.to_json()
    assert manifest["inputs"] == [{"name": "x", "shape": [4, 24], "dtype": "float32"}]
    assert [port["name"] for port in manifest["outputs"]] == ["out", "sign"]
    assert manifest["passes"] == [{"name": "none"}]
    for name, entry in manifest["files"].items():
        content = (artifact / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    assert sorted(manifest["files"]) == [name for name in FILES if name != "manifest.json"]


def test_the_driver_can_be_started(arm_artifact: Path) -> None:
    assert os.access(arm_artifact / "driver", os.X_OK)


@pytest.mark.parametrize("name", ["x86", "arm"])
def test_twice_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    first = write(tmp_path / "one", get_target(name))
    linked.cache_clear()
    second = write(tmp_path / "elsewhere" / "two", get_target(name))
    assert contents(first) == contents(second)


def test_manifest_is_canonical(artifact: Path) -> None:
    text = (artifact / "manifest.json").read_text()
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def test_mode_follows_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        folder = write(tmp_path / "model")
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o750
    assert (folder / "weights.bin").stat().st_mode & 0o777 == 0o640


def test_a_folder_that_is_replaced_keeps_its_mode_and_a_link_stays_one(tmp_path: Path) -> None:
    folder, link = write(tmp_path / "model"), tmp_path / "link"
    folder.chmod(0o700)
    link.symlink_to(folder)
    write(link, seed=1)
    assert link.is_symlink()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_reference_comes_back(artifact: Path) -> None:
    reference = load_reference(artifact)
    results = expected(some_input())
    np.testing.assert_array_equal(reference.inputs["x"], some_input())
    assert list(reference.outputs) == ["out", "sign"]
    for name, array in reference.outputs.items():
        np.testing.assert_array_equal(array, results[name])


def test_artifact_of_ours_is_replaced(copy: Path) -> None:
    before = contents(copy)
    write(copy, seed=1)
    assert contents(copy)["weights.bin"] != before["weights.bin"]
    assert listing(copy.parent) == ["model", *(f"model/{name}" for name in FILES)]
    check_artifact(copy)


def test_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    write(tmp_path / "model")
    assert listing(tmp_path / "model") == FILES


def test_link_to_a_folder_keeps_being_one(copy: Path) -> None:
    (copy.parent / "link").symlink_to(copy)
    write(copy.parent / "link", seed=1)
    assert (copy.parent / "link").is_symlink()
    check_artifact(copy)


def somebody_elses(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")


def other_manifest(folder: Path) -> None:
    folder.mkdir()
    (folder / "manifest.json").write_text('{"format": "something else", "files": {}}')


def ours_and_more(folder: Path) -> None:
    write(folder)
    (folder / "notes.txt").write_text("mine")


@pytest.mark.parametrize("prepare", [somebody_elses, other_manifest, ours_and_more])
def test_foreign_folder_needs_force(prepare: Callable[[Path], None], tmp_path: Path) -> None:
    prepare(tmp_path / "out")
    before = contents(tmp_path / "out")
    for act in (lambda: check_output(tmp_path / "out"), lambda: write(tmp_path / "out")):
        with pytest.raises(UsageError, match="--force"):
            act()
    assert contents(tmp_path / "out") == before
    write(tmp_path / "out", force=True)
    assert listing(tmp_path) == ["out", *(f"out/{name}" for name in FILES)]


@pytest.mark.parametrize("place", ["file", "file/out", "file/a/b", "loop", "loop/out", "dangling/out"])
@pytest.mark.parametrize("force", [False, True])
def test_place_that_cannot_be_written(place: str, force: bool, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("file/nowhere")
    before = listing(tmp_path)
    with pytest.raises(UsageError, match="another folder"):
        check_output(tmp_path / place, force)
    with pytest.raises(UsageError, match="another folder"):
        write(tmp_path / place, force=force)
    assert listing(tmp_path) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_file_system_that_refuses() -> None:
    """/proc exists, says it is writable to root, and takes no folders."""
    with pytest.raises(UsageError, match="/proc/model"):
        write(Path("/proc/model"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(UsageError, match="cannot be written"):
        check_output(tmp_path / "locked" / "out")


def test_working_folder_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    for place in (Path(), Path(".."), tmp_path / "a", Path("/")):
        with pytest.raises(UsageError, match="working or home folder"):
            check_output(place, force=True)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("moment", [0, 3, 6])
def test_failure_leaves_the_old_one(
    error: BaseException, moment: int, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real writer, interrupted when it is about to write its n-th file."""
    before = contents(copy)
    written = 0
    real = Path.write_bytes

    def failing(path: Path, content: bytes) -> int:
        nonlocal written
        if path.parent.name.endswith(".new"):
            written += 1
            if written > moment:
                raise error
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", failing)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else UsageError):
        write(copy, seed=1)
    monkeypatch.undo()
    assert written == moment + 1
    assert contents(copy) == before
    assert listing(copy.parent) == ["model", *(f"model/{name}" for name in FILES)]


def test_a_folder_is_replaced_in_one_step(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at any moment, the old or the new one is there: nothing is renamed one after the other."""
    probe = copy.with_name("probe")
    probe.mkdir()
    if not exchange(probe, copy):
        pytest.skip("this file system cannot")
    assert exchange(probe, copy)
    probe.rmdir()

    def never(path: Path, target: Path) -> None:
        raise AssertionError(f"{path} is renamed")

    monkeypatch.setattr(Path, "rename", never)
    before = (copy / "weights.bin").read_bytes()
    write(copy, seed=1)
    assert (copy / "weights.bin").read_bytes() != before
    assert [path.name for path in copy.parent.iterdir() if path.name.startswith(".")] == []


def test_failure_of_the_last_rename_restores(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(copy)
    real = Path.rename
    monkeypatch.setattr(save, "exchange", lambda one, other: False)  # as on file systems that cannot

    def failing(path: Path, to: Path) -> Path:
        if path.name.endswith(".new"):
            raise OSError(5, "Input/output error")
        return real(path, to)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(UsageError, match="Input/output error"):
        write(copy, seed=1)
    monkeypatch.undo()
    assert contents(copy) == before
    assert listing(copy.parent) == ["model", *(f"model/{name}" for name in FILES)]


def test_failure_removes_the_folders_it_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path, content: bytes) -> int:
        raise KeyboardInterrupt if path.parent.name.endswith(".new") else OSError(5, "not this one")

    linked(HOST.name, 0)
    monkeypatch.setattr(Path, "write_bytes", failing)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a" / "b" / "model")
    monkeypatch.undo()
    assert listing(tmp_path) == []


def test_compile_info_may_not_hide_ours(tmp_path: Path) -> None:
    with pytest.raises(BhpeError, match="files"):
        save.write_artifact(tmp_path / "m", small_program(HOST), HOST, b"", {}, None, {"files": {}})
    assert listing(tmp_path) == []
