"""`report` prints what was counted: the machine-readable contract, the golden figures of the full network."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bhpe_compile.cli.main import main
from bhpe_compile.processes import python_command
from tests.command import bhpe, environment, inside


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON that `bhpe-compile report` prints."""
    assert main(["report", *arguments, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_original_full_network(capsys: pytest.CaptureFixture[str]) -> None:
    original = report(capsys, "--preset", "full")["original"]
    assert original["params"]["total"] == 77_842_256
    assert original["ops"]["macs"] == 17_848_406_844
    assert original["params"]["binary"] == original["ops"]["binary_macs"] == 0


@pytest.mark.parametrize(
    ("scheme", "params_m", "ops_g"),
    [("bnn", 21.6078, 2.63), ("reactnet", 21.6567, 2.63), ("bidrn", None, 2.50)],
)
def test_compiled_full_network(
    scheme: str, params_m: float | None, ops_g: float, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled = report(capsys, "--preset", "full", "--scheme", scheme)["compiled"]
    assert round(compiled["ops"]["paper_g"], 2) == ops_g
    if params_m is not None:
        assert round(compiled["params"]["paper_m"], 4) == params_m


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--preset", "full"]) == 0
    lines = {line[:20].strip(): line.split() for line in capsys.readouterr().out.splitlines()[2:]}
    assert lines["parameters, paper"][2:4] == ["77.84", "M"]
    assert lines["operations, paper"][4:6] == ["2.50", "G"]


@pytest.mark.parametrize("style", ["table", "html"])
def test_full_preset_loads_no_compiler(style: str) -> None:
    """A report answers in a second or two because neither TVM, onnx nor torch's own compiler is loaded."""
    code = (
        "import sys\n"
        "from bhpe_compile.cli.main import main\n"
        f"assert main(['report', '--preset', 'full', '--format', '{style}']) == 0\n"
        "heavy = ('tvm', 'onnx', 'onnx_ir', 'onnxruntime', 'torch._dynamo', 'sympy')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        python_command("-c", code), env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"


def test_a_device_is_an_output(tmp_path: Path) -> None:
    """What a pipeline names: standard output by its path; the mode of a file is kept."""
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")  # as /dev/stdout, which a failing test might replace
    words = ("report", "--preset", "tiny", "--format", "json", "-o")
    done = bhpe(*words, tmp_path / "stdout")
    assert done.code == 0, done.stderr
    kept = tmp_path / "report.json"
    kept.touch(0o600)
    assert inside(*words, kept).code == 0
    assert kept.read_text() == done.stdout
    assert kept.stat().st_mode & 0o777 == 0o600


def test_three_conventions_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    data = report(capsys, "--preset", "full")
    before, after = data["operations"]["before"], data["operations"]["after"]
    assert before["macs_float"] == 17_848_406_844
    assert before["bit_operations"] == 32 * 32 * 17_848_406_844
    assert after["macs_1bit"] + after["macs_8bit"] + after["macs_float"] == 17_848_406_844
    assert round(after["paper"] / 1e9, 2) == 2.50


def test_sums_of_layers_are_the_totals(capsys: pytest.CaptureFixture[str]) -> None:
    data = report(capsys, "--preset", "tiny")
    assert sum(layer["bytes"] for layer in data["layers"]) == data["bytes"]["layers"]
    assert sum(layer["weights"] for layer in data["layers"]) == sum(data["weights"]["after"].values())
    assert data["predicted"] is True
    assert data["bytes"]["files"] == {}


def test_float_scheme_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    data = report(capsys, "--preset", "tiny", "--scheme", "float")
    assert data["weights"]["after"]["binary"] == 0
    assert data["operations"]["after"]["paper"] == data["operations"]["before"]["paper"]


def test_layers_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--preset", "tiny"]) == 0
    assert "hand_roi_net.backbone.conv1" not in capsys.readouterr().out
    assert main(["report", "--preset", "tiny", "--layers"]) == 0
    assert "hand_roi_net.backbone.conv1" in capsys.readouterr().out


def test_csv_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "layers.csv"
    assert main(["report", "--preset", "tiny", "--format", "csv", "-o", str(file)]) == 0
    assert capsys.readouterr().out == ""
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert {row["precision"] for row in rows} == {"binary", "int8"}
    assert all(row["ms"] == "" for row in rows)


def test_markdown_is_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--preset", "tiny", "--format", "md"]) == 0
    text = capsys.readouterr().out
    assert "### Summary" in text
    assert "| --- | ---: | ---: | ---: |" in text


def test_markdown_cannot_be_broken_by_a_name() -> None:
    from bhpe_compile.report.tables import Table, markdown

    text = markdown(Table("", ("a",), (("x|y\n<b>`*",),)))
    assert text.splitlines()[-1] == "| x\\|y \\<b\\>\\`\\* |"


def test_csv_cells_are_no_formulas() -> None:
    from dataclasses import replace

    from bhpe_compile.report.report import report_network
    from bhpe_compile.report.tables import layers_csv

    made = report_network("hand4whole:tiny", "bidrn", "x86", None)
    first = replace(made.after.layers[0], name="=1+1")
    after = replace(made.after, layers=(first,))
    assert layers_csv(replace(made, after=after)).splitlines()[1].startswith("'=1+1,")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["nowhere.pt"], "no such model or artefact"),
        (["--preset", "full", "--network", "hand4whole"], "--preset is --network hand4whole:PRESET"),
        (["--network", "hand4hole"], "did you mean hand4whole?"),
        (["--preset", "tiny", "--measure"], "--measure needs a compiled model"),
        (["--preset", "tiny", "--picture", "x.png"], "--picture needs a compiled model"),
        (["--preset", "tiny", "--target", "z80"], "unknown target"),
    ],
)
def test_usage(words: list[str], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *words]) == 2
    assert what in capsys.readouterr().err
