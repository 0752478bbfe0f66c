"""`bhpe-compile cache`: what is there, how big, and that only what is ours goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import inside, listing


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with four things of ours and two of somebody else's."""
    monkeypatch.setenv("BHPE_CACHE", str(tmp_path))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / ("0" * 64)).write_bytes(b"x" * 98)
    (tmp_path / "SMPLX_ANNY-9100e7a819abe8aa.npz").write_bytes(b"x" * 1500)
    (tmp_path / "mean-pose-2-1000-73008d69e7982ce7.json").write_bytes(b"{}")
    people = tmp_path / "test-2-7-500-73008d69e7982ce7"
    (people / "images").mkdir(parents=True)
    (people / "images" / "000000.jpg").write_bytes(b"x" * 500)
    (tmp_path / "thesis.tex").write_bytes(b"mine")
    (tmp_path / "test-results").mkdir()
    return tmp_path


def test_what_is_kept(folder: Path) -> None:
    shown = inside("cache").stdout
    assert "1.5 kB  SMPLX_ANNY-9100e7a819abe8aa.npz" in shown
    assert "500 people drawn, test split, seed 7" in shown
    assert "98 B  code" in shown
    assert "thesis" not in shown
    assert shown.endswith(f"2.1 kB kept in {folder}\n")
    told = json.loads(inside("cache", "--format", "json").stdout)
    assert (told["bytes"], told["cleared"], len(told["kept"])) == (2100, False, 4)


def test_clear_removes_what_is_ours(folder: Path) -> None:
    outcome = inside("cache", "--clear")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.endswith(f"2.1 kB removed from {folder}\n")
    assert listing(folder) == ["test-results", "thesis.tex"]
    assert inside("cache").stdout == f"0 B kept in {folder}\n"


def test_a_link_goes_and_what_it_points_to_stays(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "important").write_text("kept")
    (folder / "train-2-0-10-73008d69e7982ce7").symlink_to(elsewhere)
    assert inside("cache", "--clear").code == 0
    assert listing(elsewhere) == ["important"]


def test_no_folder_is_an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BHPE_CACHE", str(tmp_path / "none"))
    assert inside("cache").stdout == f"0 B kept in {tmp_path / 'none'}\n"
    assert inside("cache", "--clear").code == 0
