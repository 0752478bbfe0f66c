"""What a measurement of accuracy says before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from bhpe_compile.evaluate.data import COUNT, drawing_ahead
from bhpe_compile.evaluate.synth.streams import VERSION


def test_people_that_have_to_be_drawn_are_foretold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BHPE_CACHE", str(tmp_path))
    ahead = drawing_ahead("synth", None, 0)
    assert ahead is not None
    assert (ahead.count, ahead.seconds, ahead.folder) == (COUNT, COUNT / 20, tmp_path)
    assert 20e6 < ahead.nbytes < 50e6
    assert drawing_ahead(str(tmp_path), None, 0) is None  # a folder is there already
    labels = tmp_path / f"test-{VERSION}-0-{COUNT}-0123456789abcdef" / "labels"
    labels.mkdir(parents=True)
    assert drawing_ahead("synth", None, 0) is not None  # nothing was finished there
    (labels / "00000.npz").touch()
    assert drawing_ahead("synth", None, 0) is None
    assert drawing_ahead("synth", 10, 0) is not None
    assert drawing_ahead("synth", None, 7) is not None
