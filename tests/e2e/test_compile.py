"""The main job: what is written, that it is the same every time, and what is never overwritten."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from bhpe_compile.compiler.plan import list_passes
from bhpe_compile.frontends.checkpoint import load_model, save_model
from bhpe_compile.passes.binarize import BinarizeOptions, binarize
from tests.command import COMMAND, FILES, bhpe, environment, inside, listing
from tests.examples import Compiled


@pytest.mark.parametrize("target", ["compiled", "compiled_arm"])
def test_files_and_manifest(target: str, request: pytest.FixtureRequest) -> None:
    one: Compiled = request.getfixturevalue(target)
    assert listing(one.folder) == FILES
    manifest = json.loads((one.folder / "manifest.json").read_text())
    listed = {name: (entry["sha256"], entry["size"]) for name, entry in manifest["files"].items()}
    found = {
        name: (
            hashlib.sha256((one.folder / name).read_bytes()).hexdigest(),
            (one.folder / name).stat().st_size,
        )
        for name in FILES
        if name != "manifest.json"
    }
    assert listed == found


def test_tiny_budgets(compiled: Compiled) -> None:
    on_device = [(compiled.folder / name).stat().st_size for name in ("model.so", "weights.bin")]
    assert sum(on_device) <= 3_000_000


def test_result_as_json(compiled: Compiled) -> None:
    result = json.loads(compiled.outcome.stdout)
    assert result["output"] == str(compiled.folder)
    assert sorted(result["files"]) == FILES
    assert result["weights"]["binary"] > 0
    assert set(result["seconds"]) >= {"load", "binarize", "export", "fold", "lower", "write"}


def test_options_come_first_on_stderr(compiled: Compiled) -> None:
    lines = compiled.outcome.stderr.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["model", "target", "output", "scheme"]
    assert any(line.endswith("lower") for line in lines[4:])


def test_twice_gives_the_same_bytes_and_force_replaces(
    compiled: Compiled, foreign: Path, example: Path
) -> None:
    """In a process of its own, as a user calls it."""
    outcome = bhpe(example / "model.pt", "--target", "x86", "-o", foreign, "--force", "-q", "--no-cache")
    assert outcome.code == 0, outcome.stderr
    assert listing(foreign) == FILES
    assert listing(foreign.parent) == [foreign.name, *(f"{foreign.name}/{name}" for name in FILES)]
    for name in FILES:
        assert (foreign / name).read_bytes() == (compiled.folder / name).read_bytes(), name


def test_binary_checkpoint_replaces_an_artifact_of_ours(
    example: Path, compiled: Compiled, copy: Path, tmp_path: Path
) -> None:
    """A checkpoint that is model.pt made binary: compiling either gives the same library and weights."""
    options = BinarizeOptions()
    loaded = load_model(example / "model.pt")
    save_model(tmp_path / "binary.pt", binarize(loaded.model, options)[0], loaded.spec, options.to_dict())
    (copy / "weights.bin").write_bytes(b"old")
    outcome = inside(tmp_path / "binary.pt", "--target", "x86", "-o", copy, "-q")
    assert outcome.code == 0, outcome.stderr
    assert (outcome.stdout, outcome.stderr) == ("", "")
    assert listing(copy) == FILES
    for name in ("model.so", "weights.bin"):
        assert (copy / name).read_bytes() == (compiled.folder / name).read_bytes(), name


def test_default_output_and_table(example: Path, tmp_path: Path) -> None:
    outcome = inside(example / "model.pt", "--target", "x86", cwd=tmp_path)
    assert outcome.code == 0, outcome.stderr
    assert listing(tmp_path / "dist") == ["model-x86", *(f"model-x86/{name}" for name in FILES)]
    assert "dist/model-x86/" in outcome.stdout
    assert "weights.bin" in outcome.stdout


def test_foreign_folder_is_refused(foreign: Path, example: Path) -> None:
    outcome = inside(example / "model.pt", "--target", "x86", "-o", foreign)
    assert outcome.code == 2
    assert "--force" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert listing(foreign) == ["thesis.tex"]


def test_dry_run_writes_nothing(example: Path, tmp_path: Path) -> None:
    outcome = inside(example / "model.pt", "--target", "x86", "--dry-run", "--format", "json", cwd=tmp_path)
    assert outcome.code == 0, outcome.stderr
    planned = json.loads(outcome.stdout)
    assert planned["options"]["output"] == "dist/model-x86"
    assert {one["stage"] for one in planned["passes"]} == {"binarize", "fold", "lower"}
    assert listing(tmp_path) == []


def test_a_network_that_was_not_trained_in_its_binary_form_is_told_of(
    compiled: Compiled, compiled_bidrn: Compiled
) -> None:
    """On stderr with what to do, for programs, in the manifest and in reports; not of a student of `distill`."""
    assert "model.pt was not trained in its binary form: against full precision it moves joints by " in (
        compiled.outcome.stderr
    )
    for word in ("bhpe-compile distill ", "--scheme int8", "--scheme bidrn"):
        assert word in compiled.outcome.stderr
    printed = json.loads(compiled.outcome.stdout)
    manifest = json.loads((compiled.folder / "manifest.json").read_text())
    for told in (printed, manifest):
        assert told["trained_binary"] is False
        assert set(told["agreement"]["joints"]) == {"value", "unit", "pictures"}
        assert told["agreement"]["joints"]["value"] > 20  # of 512 rows: this network finds nobody
        assert told["agreement"]["joints"]["unit"] == "pixels of the input"
    report = json.loads(inside("report", compiled.folder, "--format", "json").stdout)
    assert (report["trained_binary"], report["agreement"]) == (False, manifest["agreement"])
    for style in ("table", "md", "html"):
        shown = inside("report", compiled.folder, "--format", style).stdout
        assert "not trained in its binary form" in shown, style
    assert "not trained" not in compiled_bidrn.outcome.stderr
    printed = json.loads(compiled_bidrn.outcome.stdout)
    assert (printed["trained_binary"], printed["agreement"]) == (True, {})
    assert "not trained" not in inside("report", compiled_bidrn.folder).stdout


def test_binary_layers_that_are_meant_cost_one_quiet_line(example: Path, tmp_path: Path) -> None:
    model, options = example / "model.pt", ("--target", "x86", "-o", tmp_path / "out", "--dry-run")
    assert inside(model, *options).stderr.count("\n") > 1
    meant = inside(model, *options, "--scheme", "bidrn").stderr
    assert meant == "model.pt was not trained in its binary form\n"
    (tmp_path / "bhpe.toml").write_text('[compile]\nscheme = "bidrn"\n')
    assert inside("--config", tmp_path / "bhpe.toml", "compile", model, *options).stderr == meant
    assert inside(model, *options, "--scheme", "bidrn", "-q").stderr == ""
    assert inside(model, *options, "--scheme", "int8").stderr == ""
    assert inside(example / "model-bidrn.pt", *options).stderr == ""


def test_dry_run_refuses_what_the_real_run_refuses(example: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    refused = (
        (("--keep-float", "layerX*"), 2, "matches no layer"),
        (("--calibrate", tmp_path / "bad.png"), 3, "is not a picture"),
        (("--max-drop", "much"), 2, "much"),
        (("--target", "wasm32", "--form", "wheel"), 2, "wasm32"),
    )
    for words, code, says in refused:
        for rehearsed in ((), ("--dry-run",)):
            outcome = inside(
                example / "model.pt", "--target", "x86", "-o", tmp_path / "out", *words, *rehearsed
            )
            assert (outcome.code, outcome.stdout) == (code, ""), (words, outcome.stderr)
            assert says in outcome.stderr.splitlines()[-1]


def test_a_terminal_gets_a_progress_bar(example: Path, tmp_path: Path) -> None:
    """stderr is a real pseudo terminal; stdout stays clean data."""
    reader, writer = pty.openpty()
    last = list_passes()[-1].name
    with subprocess.Popen(
        [*COMMAND, example / "model.pt", "--target", "x86", "--stop-after", last],
        cwd=tmp_path,
        env=environment(TERM="xterm", COLUMNS="100"),
        stdout=subprocess.PIPE,
        stderr=writer,
    ) as process:
        os.close(writer)
        shown = b""
        while True:
            try:
                piece = os.read(reader, 4096)
            except OSError:  # Linux reports EIO when the last writer of a pseudo terminal closes it
                break
            shown += piece
        assert process.stdout is not None
        data = process.stdout.read()
    os.close(reader)
    assert process.returncode == 0, shown
    assert "━".encode() in shown
    for stage in (b"export", b"fold", b"lower"):
        assert stage in shown
    (graph,) = data.decode().splitlines()
    assert (tmp_path / graph).is_file()
    assert graph.endswith(f"_{last}.txt")


def test_kept_layers_stay_float(example: Path, tmp_path: Path) -> None:
    words = ("--target", "x86", "-o", tmp_path / "out", "--keep-float", "box_net.*", "--format", "json")
    outcome = inside(example / "model.pt", *words)
    assert outcome.code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["output"] == str(tmp_path / "out")
    layers = json.loads((tmp_path / "out" / "report.json").read_text())["layers"]
    boxes = {layer["precision"] for layer in layers if layer["name"].startswith("box_net.")}
    assert boxes == {"int8"}
    assert "binary" in {layer["precision"] for layer in layers}
