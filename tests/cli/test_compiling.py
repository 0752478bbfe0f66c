"""The options of compiling are the same wherever they are, and become one `CompileOptions`."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from PIL import Image

from bhpe_compile.cli.compiling import BINARIZING, OPTIONS, compile_options, given
from bhpe_compile.cli.main import cli, main
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.frontends.checkpoint import save_model
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY
from bhpe_compile.passes.binarize import BinarizeOptions, binarize

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("compile", set(OPTIONS)),
        ("eval", set(OPTIONS)),
        ("tune", set(OPTIONS) - {"tiles", "cache"}),
        ("sensitivity", set(BINARIZING)),
        ("report", {"network", "scheme", "dense", "pair_safe"}),
    ],
)
def test_commands_have_the_same_options(command: str, names: set[str]) -> None:
    @click.command()
    @compile_options()
    def everything(options: CompileOptions) -> None: ...

    whole = {one.name: one.to_info_dict() for one in everything.params}
    found = {one.name: one.to_info_dict() for one in cli.commands[command].params if one.name in OPTIONS}
    assert found == {name: whole[name] for name in names}


class Caught(Exception):  # noqa: N818
    """Carries what a command was given out of it."""


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command `probe` that raises `Caught` with its options."""

    @click.command("probe")
    @click.option("--target")
    @compile_options()
    def command(options: CompileOptions) -> None:
        raise Caught(options, given())

    monkeypatch.setitem(cli.commands, "probe", command)


def options_of(*words: str) -> tuple[CompileOptions, tuple[str, ...]]:
    with pytest.raises(Caught) as caught:
        cli.main(["probe", *words], standalone_mode=False)
    options, on_command_line = caught.value.args
    return options, on_command_line


@pytest.mark.usefixtures("probe")
def test_words_become_options(tmp_path: Path) -> None:
    assert options_of() == (CompileOptions(""), ())
    (tmp_path / "tiles.json").touch()
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    words = (
        "--target",
        "arm",
        "--scheme",
        "bnn",
        "--keep-float",
        "a",
        "--keep-float",
        "b",
        "--binarize",
        "c",
    )
    more = ("--residual-tap", "before", "--dense", "int8", "--residual", "fp32")
    files = ("--calibrate", str(tmp_path), "--tiles", str(tmp_path / "tiles.json"))
    shape = ("--shape", "image=1,3,4,4")
    options, on_command_line = options_of(
        *words, *more, *files, *shape, "--network", "hand4whole", "--no-cache", "--pair-safe"
    )
    assert options == CompileOptions(
        "arm",
        "bnn",
        ("a", "b"),
        ("c",),
        "before",
        "int8",
        "fp32",
        (tmp_path / "a.png",),
        tiles=tmp_path / "tiles.json",
        network="hand4whole",
        shapes=(("image", (1, 3, 4, 4)),),
        cache=False,
        pair_safe=True,
    )
    said = {name.replace("_", "-").replace("shapes", "shape") for name in OPTIONS}
    assert set(on_command_line) == {f"--{name}" for name in said}


@pytest.mark.usefixtures("probe")
def test_the_former_words_of_int8_still_work(capsys: Capture) -> None:
    options, _ = options_of("--scheme", "float", "--dense", "int8")
    assert options.scheme == "int8"
    assert capsys.readouterr().err == (
        "note: --scheme float --dense int8 is --scheme int8 now; the next version knows that only\n"
    )
    options_of("--scheme", "int8", "--dense", "int8")
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("probe")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--scheme", "int8", "--dense", "fp32"], "--scheme int8 --dense fp32 contradict each other"),
        (["--scheme", "int4"], "'int4' is not one of"),
        (["--calibrate", "nowhere"], "nowhere: no such file or folder"),
        (["--tiles", "nowhere"], "nowhere: no such table of tiles"),
        (
            ["--scheme", "float", "--calibrate", "{picture}"],
            "--calibrate is for 8-bit layers, --scheme float has none",
        ),
        (
            ["--dense", "fp32", "--calibrate", "{picture}"],
            "--calibrate is for 8-bit layers, --dense fp32 has none",
        ),
    ],
)
def test_contradictions_are_refused_in_one_line(
    words: list[str], says: str, tmp_path: Path, capsys: Capture
) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    assert main(["probe", *(word.replace("{picture}", str(tmp_path / "a.png")) for word in words)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ")
    assert says in err


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    network = initialise(Hand4Whole(TINY), 1)
    save_model(folder / "model.pt", network, "hand4whole:tiny")
    options = BinarizeOptions()
    save_model(folder / "binary.pt", binarize(network, options)[0], "hand4whole:tiny", options.to_dict())
    return folder


def dry_run(folder: Path, name: str, *words: str) -> int:
    out = str(folder / "out")
    return main(["compile", str(folder / name), "--target", "x86", "-o", out, "--dry-run", *words])


@pytest.mark.parametrize(
    ("words", "absent", "present"),
    [
        ((), (), ("free-signs", "quantize-dense", "half-residuals")),
        (("--scheme", "int8"), ("free-signs", "half-residuals"), ("quantize-dense",)),
        (("--scheme", "float"), ("free-signs", "half-residuals", "quantize-dense"), ("pack-weights",)),
        (("--dense", "fp32"), ("quantize-dense",), ("free-signs", "half-residuals")),
    ],
)
def test_a_dry_run_prints_the_passes_that_would_run(
    checkpoints: Path,
    words: tuple[str, ...],
    absent: tuple[str, ...],
    present: tuple[str, ...],
    capsys: Capture,
) -> None:
    assert dry_run(checkpoints, "model.pt", *words) == 0
    passes = [line.split()[1] for line in capsys.readouterr().out.split("---\n")[-1].splitlines()]
    assert not set(absent) & set(passes)
    assert set(present) <= set(passes)


def test_a_binary_checkpoint_says_its_scheme_itself(checkpoints: Path, capsys: Capture) -> None:
    assert dry_run(checkpoints, "binary.pt", "--scheme", "bnn") == 0
    assert "scheme        bidrn\n" in capsys.readouterr().out
    assert dry_run(checkpoints, "binary.pt", "--scheme", "float") == 2
    assert "binary.pt: is binary already; --scheme float is for" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["static", "wheel"])
def test_the_former_words_of_forms_still_work(checkpoints: Path, form: str, capsys: Capture) -> None:
    assert dry_run(checkpoints, "model.pt", "--format", form) == 0
    out, err = capsys.readouterr()
    note, *rest = err.splitlines(keepends=True)
    assert note == f"note: --format {form} is --form {form} now; the next version knows that only\n"
    assert f"forms         folder, {form}\n" in out
    assert dry_run(checkpoints, "model.pt", "--form", form, "--form", "folder") == 0
    assert capsys.readouterr() == (out, "".join(rest))


def test_an_unknown_form_is_refused(checkpoints: Path, capsys: Capture) -> None:
    assert dry_run(checkpoints, "model.pt", "--form", "zip") == 2
    assert "'zip' is not one of 'folder', 'static', 'wheel', 'web'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["--calibrate", "{picture}"], ["--bisect", "--calibrate", "{picture}"]],
    ids=["verify", "bisect"],
)
def test_verify_calibrates_only_where_it_makes_the_model_again(
    words: list[str], tmp_path: Path, capsys: Capture
) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    words = [word.replace("{picture}", str(tmp_path / "a.png")) for word in words]
    assert main(["verify", str(tmp_path), *words]) == 2
    assert capsys.readouterr().err == ("error: --calibrate is for making the model again: add --model\n")
