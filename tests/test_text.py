"""Text from outside stays text: in errors, tables, XML, Markdown, names of targets and the metadata of wheels."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bhpe_compile.cli.main import main
from bhpe_compile.cli.tables import render_pairs, render_table
from bhpe_compile.errors import InputError
from bhpe_compile.evaluate import junit
from bhpe_compile.report.figures import render_markdown
from bhpe_compile.targets import get_target
from bhpe_compile.text import printable, printable_lines
from tests.command import ROOT, inside

EVIL = "a\x1b[31mred\x07\r\u202etxt\x9b1m\nb"


def test_what_is_not_printable_is_spelled() -> None:
    assert printable("Grüße, 中文 😀") == "Grüße, 中文 😀"
    assert printable(EVIL) == r"a\x1b[31mred\x07\r\u202etxt\x9b1m\nb"
    assert printable("\udcff.pt") == r"\udcff.pt"
    assert printable_lines("a\nb\x1b") == "a\nb" + r"\x1b"


def test_tables_and_markdown() -> None:
    for text in (
        render_table(("name", EVIL), [(EVIL, "1")]),
        render_pairs([(EVIL, EVIL)]),
        render_markdown(("name",), [(EVIL,)]),
    ):
        assert printable_lines(text) == text
        assert len(text.splitlines()) <= 3


def test_xml() -> None:
    assert ElementTree.fromstring(f"<a>{junit._clean(EVIL)}</a>").text == printable_lines(EVIL)


def test_errors_and_names_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "x\x1b]0;title\x07"), "y"]) == 2
    err = capsys.readouterr().err
    assert r"x\x1b]0;title\x07: no such artefact" in err
    assert printable_lines(err) == err


@pytest.mark.parametrize(
    "name", ["x86\\nRequires-Dist: evil-package", "\\u001b[31m", "../up", "", "ä", "a" * 65]
)
def test_names_of_targets(name: str, tmp_path: Path) -> None:
    """They become names of folders and a line of a wheel's metadata."""
    path = tmp_path / "boards.toml"
    path.write_text(f'["{name}"]\nlike = "arm"\n')
    with pytest.raises(InputError, match="a name has letters"):
        get_target(str(path))
    path.write_text(
        '[garden-camera_2.0]\nlike = "arm"\nsummary = "a\\nb"\n'.replace("camera_2.0", "camera_2")
    )
    assert get_target(str(path)).name == "garden-camera_2"
    assert get_target(str(path)).summary == r"a\nb"


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"sound-\xff.pt")
    shutil.copy(ROOT / "bhpe_compile" / "data" / "model.pt", path)
    for style in ("table", "json", "md"):
        outcome = inside("report", path, "--format", style)
        assert outcome.code == 0, outcome.stderr
    page = tmp_path / os.fsdecode(b"page-\xff.html")
    assert main(["report", str(path), "--format", "html", "-o", str(page)]) == 0
    assert "sound-\\udcff.pt" in page.read_text()
