"""Numbered files after the passes asked for; the compilation ends where it is told to; strangers' files are safe."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from bhpe_compile.check.inspect import Dumper, Stopped
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.plan import POINTS, check_points, list_passes
from bhpe_compile.compiler.progress import Progress
from bhpe_compile.errors import UsageError
from bhpe_compile.passes.base import PassManager
from bhpe_compile.passes.fold import fold_passes
from tests.passes.fold.graphs import Builder

NAMES = [one.name for one in fold_passes()]


def fold(dumper: Dumper) -> None:
    """All fold passes on a small graph, as the pipeline runs them."""
    b = Builder(1)
    model = b.build(b.batch_norm(b.dense(b.input("x", (1, 3, 8, 8)), "stem", 8), "norm"))
    progress = Progress(None, dumper)
    with progress.stage("fold"):
        PassManager(fold_passes()).run(model, progress.passed)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all(tmp_path: Path) -> None:
    dumper = Dumper(tmp_path / "ir", ("all",))
    fold(dumper)
    assert names(tmp_path / "ir") == [f"{k:03}_fold_{name}.txt" for k, name in enumerate(NAMES)]
    text = dumper.files[NAMES.index("fold-batch-norm")].read_text()
    assert text.startswith(
        "# after fold-batch-norm, stage fold\n# changed the graph\n# applied stem: batch norm"
    )
    assert "ChannelAffine" in text
    assert "changed nothing" in dumper.files[NAMES.index("pack-weights")].read_text()


def test_one_keeps_its_number_and_is_an_onnx_file(tmp_path: Path) -> None:
    fold(Dumper(tmp_path, ("fold-batch-norm",), onnx=True))
    number = NAMES.index("fold-batch-norm")
    stem = f"{number:03}_fold_fold-batch-norm"
    assert names(tmp_path) == [f"{stem}.onnx", f"{stem}.txt"]
    onnx.checker.check_model(onnx.load(tmp_path / f"{stem}.onnx"))


def test_stop(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="fold-batch-norm") as caught:
        fold(Dumper(tmp_path, (), stop="fold-batch-norm"))
    assert [path.name for path in caught.value.files] == names(tmp_path)
    assert len(names(tmp_path)) == 1


def test_old_dumps_go_and_other_files_stay(tmp_path: Path) -> None:
    fold(Dumper(tmp_path, ("all",)))
    Dumper(tmp_path, ())
    assert names(tmp_path) == []
    (tmp_path / "000_notes.md").write_text("mine")
    with pytest.raises(UsageError, match=r"000_notes\.md"):
        Dumper(tmp_path, ())
    assert names(tmp_path) == ["000_notes.md"]


def test_names_are_checked_before_the_work() -> None:
    options = CompileOptions("x86")
    check_points((*POINTS, *(one.name for one in list_passes())), options)
    with pytest.raises(UsageError, match="did you mean fold-batch-norm"):
        check_points(("fold-batchnorm",), options)
    with pytest.raises(UsageError, match="quantize-dense does not run with --scheme bidrn --dense fp32"):
        check_points(("quantize-dense",), CompileOptions("x86", dense="fp32"))
    with pytest.raises(UsageError, match="half-residuals does not run"):
        check_points(("half-residuals",), CompileOptions("x86", scheme="float"))
    with pytest.raises(UsageError, match="plain does not run with --scheme float"):
        check_points(("plain",), CompileOptions("x86", scheme="float"))
