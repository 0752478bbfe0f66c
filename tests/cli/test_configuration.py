"""Options from files: which file is taken, the command line wins, every mistake is named with its place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bhpe_compile.cli.configuration import find_file, options_of, read_configuration
from bhpe_compile.cli.main import cli, main
from bhpe_compile.cli.options import OutwardOption
from bhpe_compile.errors import InputError, UsageError
from tests.command import every_command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder below another."""
    (tmp_path / "project" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project" / "sub")
    return tmp_path / "project"


def resolved(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, tuple[object, str]]:
    """Values and origins as --print-config tells them."""
    assert main([*arguments, "--print-config", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    return {name: (one["value"], one["from"]) for name, one in found.items()}


def test_the_nearest_file(folder: Path) -> None:
    assert find_file(Path.cwd()) is None
    (folder / "pyproject.toml").write_text("[tool.ruff]\nline-length = 110\n")
    assert find_file(Path.cwd()) is None
    (folder / "pyproject.toml").write_text("[tool.bhpe.compile]\ntarget = 'arm'\n")
    assert find_file(Path.cwd()) == folder / "pyproject.toml"
    (folder / "bhpe.toml").touch()
    assert find_file(Path.cwd()) == folder / "bhpe.toml"
    (folder / "sub" / "bhpe.toml").touch()
    assert find_file(Path.cwd()) == folder / "sub" / "bhpe.toml"


@pytest.mark.parametrize(("name", "prefix"), [("bhpe.toml", ""), ("pyproject.toml", "tool.bhpe.")])
def test_the_command_line_wins(
    name: str, prefix: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / name).write_text(
        f"[{prefix}compile]\ntarget = 'arm'\nscheme = 'bnn'\nkeep-float = ['a', 'b']\noutput = 'out'\nverify = true\n"
    )
    found = resolved(capsys, "compile", "--scheme", "bidrn")
    file = str(folder / name)
    assert found["target"] == ("arm", file)
    assert found["scheme"] == ("bidrn", "command line")
    assert found["keep-float"] == (["a", "b"], file)
    assert found["output"] == ("../out", file)  # from the folder of the file
    assert found["verify"] == (True, file)
    assert found["residual"] == ("fp16", "default")
    assert resolved(capsys, "--no-config", "compile")["target"] == (None, "default")


def test_the_values_reach_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model.pt").touch()
    (folder / "bhpe.toml").write_text("[compile]\ntarget = 'x87'\n")
    assert main([str(folder / "model.pt")]) == 2  # the word `compile` left out
    assert "x87" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[compil]\n", r"no command 'compil'; did you mean compile or compare\?"),
        ("[compile]\ntraget = 'x86'\n", r"\[compile\] has no option 'traget'; did you mean target"),
        ("[compile]\nzzz = 1\n", "has no option 'zzz'; there are accuracy-body, "),
        ("[compile]\nforce = 'yes'\n", r"\[compile\] force has to be true or false"),
        ("[compile]\ntarget = true\n", r"\[compile\] target has to be no true or false"),
        ("[compile]\nkeep-float = 'a'\n", r"\[compile\] keep-float has to be a list"),
        ("[compile]\ntarget = ['arm']\n", r"\[compile\] target has to be one value"),
        ("[compile]\nprint-config = true\n", "no option 'print-config'"),
        ("compile = 3\n", r"compile has to be a section"),
        ("[data]\nseed = 3\n", r"there is no command 'data.seed'; there are check, film, synth"),
        ("[data.synth]\nsed = 3\n", r"\[data.synth\] has no option 'sed'; did you mean seed"),
    ],
)
def test_mistakes(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bhpe.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_configuration(cli, tmp_path / "bhpe.toml")


def outward() -> list[tuple[str, str]]:
    """Every command's options that start programs or open connections."""
    return [
        (".".join(words), name)
        for words, command in every_command(cli)
        for name, option in options_of(command)
        if isinstance(option, OutwardOption)
    ]


def test_boards_are_reached_outwards() -> None:
    found = outward()
    for command in ("run", "verify", "bench"):
        expected = ["ssh", "ssh-config", "rpc", "key"]
        assert [name for one, name in found if one == command and name != "camera"] == expected
    assert ("run", "camera") in found
    assert {name for one, name in found if one == "tune"} == {"rpc", "key"}
    names = {name for _, name in found}
    for words, command in every_command(cli):
        here = {name for name, _ in options_of(command)}
        assert here & names == {name for one, name in found if one == ".".join(words)}


@pytest.mark.parametrize(("section", "name"), outward())
@pytest.mark.parametrize(("file", "prefix"), [("bhpe.toml", ""), ("pyproject.toml", "tool.bhpe.")])
def test_a_file_starts_nothing(
    file: str, prefix: str, section: str, name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ssh's own configuration may name any program (ProxyCommand)."""
    (folder / file).write_text(f"[{prefix}{section}]\n{name.replace('-', '_')} = 'evil.conf'\n")
    assert main([*section.split("."), "--print-config"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert str(folder / file) in line
    assert f"[{section}] {name.replace('-', '_')} starts a program or opens a connection" in line
    assert f"give --{name} on the command line" in line


def test_a_proxy_command_in_a_file_does_not_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a user typed: `run ARTEFACT PICTURE`, below a folder with such a file."""
    mark = folder / "ran"
    (folder / "evil.conf").write_text(f"Host *\n  ProxyCommand touch {mark}\n")
    (folder / "bhpe.toml").write_text("[run]\nssh = 'board'\nssh-config = 'evil.conf'\n")
    assert main(["run", str(folder), str(folder / "person.png")]) == 2
    assert "[run] ssh starts a program" in capsys.readouterr().err
    assert not mark.exists()


NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


@NEEDS_ROOT
@pytest.mark.parametrize("file", ["bhpe.toml", "pyproject.toml"])
@pytest.mark.parametrize("how", ["file", "link", "target"])
def test_somebody_elses_file_is_refused(
    file: str, how: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, real = folder / file, folder / "real.toml"
    text = "[compile]\nverify = true\n" if file == "bhpe.toml" else "[tool.bhpe.compile]\nverify = true\n"
    if how == "file":
        path.write_text(text)
        os.chown(path, 12345, 12345)
    else:
        real.write_text(text)
        path.symlink_to(real)
        os.chown(*(path, 12345, 12345), follow_symlinks=how == "target")
    assert main(["compile", "--print-config"]) == 2
    line = capsys.readouterr().err
    assert (
        f"{path}: belongs to user 12345, not to you: --no-config goes without it, --config {path} takes it"
        in line
    )
    for words in (["--no-config"], ["--config", str(path)]):
        assert main([*words, "compile", "--print-config"]) == 0
    assert "true" in capsys.readouterr().out


@NEEDS_ROOT
def test_somebody_elses_file_of_something_else_is_no_matter(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.ruff]\nline-length = 110\n")
    os.chown(folder / "pyproject.toml", 12345, 12345)
    assert find_file(Path.cwd()) is None


def test_what_is_no_file_of_options(tmp_path: Path) -> None:
    (tmp_path / "bhpe.toml").write_text("[compile\n")
    with pytest.raises(InputError, match="is not TOML"):
        read_configuration(cli, tmp_path / "bhpe.toml")
    with pytest.raises(UsageError, match="No such file"):
        read_configuration(cli, tmp_path / "none.toml")


def test_a_value_that_click_refuses_names_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bhpe.toml").write_text("[report]\nformat = 'huge'\n")
    assert main(["report"]) == 2
    err = capsys.readouterr().err
    assert "'huge' is not one of" in err
    assert str(folder / "bhpe.toml") in err


def test_every_option_of_every_command_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for words, command in every_command(cli):
        assert main([*words, "--print-config"]) == 0, words
        lines = capsys.readouterr().out.splitlines()[4:]
        assert [line.split()[0] for line in lines] == [option for option, _ in options_of(command)]


def test_commands_of_a_group_have_sections(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bhpe.toml").write_text("[data.synth]\nseed = 7\n")
    assert main(["data", "synth", "--count", "3", "--print-config", "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["seed"] == {"value": 7, "from": str(folder / "bhpe.toml")}
    assert shown["count"] == {"value": 3, "from": "command line"}
