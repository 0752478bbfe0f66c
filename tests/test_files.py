"""Files are whole or not there."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from PIL import Image

from bhpe_compile.errors import UsageError
from bhpe_compile.files import PICTURES, beside, exchange, find_pictures, sha256, sweep, write_atomically
from bhpe_compile.processes import python_command
from tests.command import environment


def test_what_was_there_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, b"one")
    write_atomically(path, memoryview(b"another"))
    assert path.read_bytes() == b"another"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_nothing_is_left_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(OSError, match="taken"):
        write_atomically(tmp_path / "taken", b"content")  # written beside, but a folder cannot be replaced
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file", b"")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_file_keeps_its_mode_and_a_new_one_gets_the_umasks(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"secret")
    old.chmod(0o640)
    mask = os.umask(0o027)
    try:
        write_atomically(old, b"content")
        write_atomically(new, b"content")
    finally:
        os.umask(mask)
    assert (mode(old), mode(new)) == (0o640, 0o640)
    old.chmod(0o666)
    write_atomically(old, b"again")
    assert mode(old) == 0o666


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_a_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.chown(path, 12345, 12346)
    write_atomically(path, b"content")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, middle, target = tmp_path / "link", tmp_path / "middle", tmp_path / "there" / "file"
    link.symlink_to("middle")
    middle.symlink_to(target)
    for content in (b"new", b"replaced"):  # what it points to need not exist
        write_atomically(link, content)
        assert (link.is_symlink(), middle.is_symlink(), target.is_symlink()) == (True, True, False)
        assert target.read_bytes() == content
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    middle.unlink()
    middle.symlink_to("link")
    with pytest.raises(OSError, match="link"):  # a loop
        write_atomically(link, b"content")
    assert link.is_symlink()


def test_a_fifo_is_written_to(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    write_atomically(fifo, b"content")
    reader.join()
    assert read == [b"content"]
    assert fifo.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["fifo"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices, and only root can replace one")
def test_a_device_is_written_to(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.write_bytes(b"")
    except OSError as error:
        pytest.skip(f"no devices here: {error}")
    write_atomically(device, b"content")
    assert device.is_char_device()
    assert [path.name for path in tmp_path.iterdir()] == ["null"]


WRITES = """
import sys
from pathlib import Path
from bhpe_compile.files import write_atomically
print("before")
write_atomically(Path(sys.argv[1]), b"content\\n")
print("after")
"""


@pytest.mark.parametrize("name", ["stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_goes_on(name: str, tmp_path: Path) -> None:
    """A pipe, and a file that is appended to: nothing is replaced, nothing overwritten."""
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")  # as /dev/stdout, which a failing test might replace
    command = python_command("-c", WRITES, tmp_path / name)
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "before\ncontent\nafter\n"
    path = tmp_path / "log"
    path.write_text("old\n")
    number = path.stat().st_ino
    with path.open("a") as file:
        subprocess.run(command, env=environment(), stdout=file, check=True)
    assert path.read_text() == "old\nbefore\ncontent\nafter\n"
    assert path.stat().st_ino == number


def test_temporary_names_cannot_be_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever waits under the name of the process overwrites nothing, and a name that is taken is not written to."""
    victim = tmp_path / "victim"
    victim.write_text("years of work")
    (tmp_path / f".pose.json.{os.getpid()}.part").symlink_to(victim)
    write_atomically(tmp_path / "pose.json", b"content")
    monkeypatch.setattr("secrets.token_hex", lambda count: "00" * count)
    beside(tmp_path / "pose.json", "part").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "pose.json", b"again")
    assert (tmp_path / "pose.json").read_bytes() == b"content"
    assert victim.read_text() == "years of work"


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"


LEAVES = """
import sys
from pathlib import Path
from bhpe_compile.files import beside
target = Path(sys.argv[1])
beside(target, "part").write_text("half")
for suffix in ("new", "old"):
    place = beside(target, suffix)
    place.mkdir()
    (place / "file").touch()
"""


def test_what_dead_processes_left_is_swept(tmp_path: Path) -> None:
    target = tmp_path / "model"
    subprocess.run(python_command("-c", LEAVES, target), env=environment(), check=True)
    others = [beside(target, "part"), tmp_path / ".model.0-1.part", tmp_path / ".other.part"]
    for path in others:  # of a process that lives, and of other programs
        path.touch()
    sweep(target)
    left = sorted(path.name for path in tmp_path.iterdir() if path not in others)
    assert [name.rpartition(".")[2] for name in left] == ["old"]  # perhaps all there is of an earlier output
    target.mkdir()
    sweep(target)
    assert sorted(tmp_path.iterdir()) == sorted([*others, target])


def test_two_folders_change_places_in_one_step(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    (one / "a").touch()
    if not exchange(one, other):
        pytest.skip("this file system cannot")
    assert (list(one.iterdir()), list(other.iterdir())) == ([], [other / "a"])
    assert not exchange(one, tmp_path / "nothing")


def test_sha256(tmp_path: Path) -> None:
    """FIPS 180-2, appendix B.1: the message abc."""
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_is_no_picture_in_a_folder_is_told_and_skipped(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.TIFF", format="TIFF")
    (tmp_path / "._b.png").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    said: list[str] = []
    assert find_pictures([tmp_path], said.append) == (tmp_path / "a.TIFF", tmp_path / "b.png")
    assert said == [f"{tmp_path}: ._b.png and 2 more skipped: no picture inside"]
    with pytest.warns(UserWarning, match="skipped"):
        find_pictures([tmp_path])


def test_every_format_of_pictures_is_found(tmp_path: Path) -> None:
    for suffix in PICTURES:
        Image.new("RGB", (4, 4)).save(tmp_path / f"x{suffix}")
    assert len(find_pictures([tmp_path])) == len(PICTURES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no picture"):
        find_pictures([tmp_path / "empty"])
