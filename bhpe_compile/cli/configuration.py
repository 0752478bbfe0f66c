"""Options in a file: `bhpe.toml`, or `[tool.bhpe]` of pyproject.toml, the nearest from the working directory upwards.

    [compile]                      a section for every command; [data.synth] where a command has commands of its own
    target = "arm"                 options as on the command line, without the dashes
    keep-float = ["box_net.*"]     a list where an option may be repeated
    verify = true                  true or false for flags

The command line wins. Relative paths are relative to the file. A section or option that does not exist is an error, and
so is an option that starts a program or opens a connection. A file that the search finds has to be the user's or
root's.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.options import OutwardOption
from bhpe_compile.cli.tables import print_json, render_table
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.reading import MOST_TOML, MalformedError, read_regular, read_toml

FILE, SHARED = "bhpe.toml", "pyproject.toml"

NOT_IN_FILES = frozenset({"help", "print_config", "version", "config"})
"""Parameters that make no sense in a file."""

KEY = "bhpe.print-config"


@dataclass(frozen=True)
class Configuration:
    """What a file says: parameter values by command and parameter name, as click's `default_map` has them."""

    path: Path | None = None
    values: dict[str, Any] = field(default_factory=dict)


def find_file(start: Path) -> Path | None:
    """The nearest bhpe.toml, or pyproject.toml that has [tool.bhpe], in `start` or above.

    UsageError for one that belongs to somebody else than the user and root.
    """
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return _owned(folder / FILE)
        shared = folder / SHARED
        if shared.is_file() and _is_ours(shared):
            return _owned(shared)
    return None


def _is_ours(path: Path) -> bool:
    """Whether a pyproject.toml has [tool.bhpe]. One that is broken is for whom it serves, unless it says that name."""
    try:
        return "bhpe" in _tools(_read(path))
    except (InputError, UsageError):
        with suppress(OSError, MalformedError):
            if b"tool.bhpe" in read_regular(path, MOST_TOML):
                raise
        return False


def _owned(path: Path) -> Path:
    """`path`, which the user or root owns, and what it points to as well where it is a link; else UsageError."""
    for owner in (path.lstat().st_uid, path.stat().st_uid):
        if owner not in (os.geteuid(), 0):
            try:
                name = pwd.getpwuid(owner).pw_name
            except KeyError:  # a number without an account
                name = f"user {owner}"
            raise UsageError(
                f"{path}: belongs to {name}, not to you: --no-config goes without it, --config {path} takes it"
            )
    return path


def read_configuration(group: click.Group, path: Path | None) -> Configuration:
    """What the file says to the commands of `group`. InputError: no TOML; UsageError: something unknown in it."""
    if path is None:
        return Configuration()
    document = _read(path)
    sections = document if path.name != SHARED else _tools(document).get("bhpe", {})
    if not isinstance(sections, dict):
        raise UsageError(f"{path}: tool.bhpe has to be a table, [tool.bhpe]")
    return Configuration(path, _sections(path, "", group, sections))


def _tools(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tables [tool.*] of a pyproject.toml."""
    tools = document.get("tool", {})
    return tools if isinstance(tools, dict) else {}


def _sections(path: Path, prefix: str, group: click.Group, sections: Any) -> dict[str, Any]:
    """The values of a group's commands; `prefix` is the group's name and a point, except for the first."""
    values: dict[str, Any] = {}
    for name, section in sections.items():
        command, full = group.commands.get(name), f"{prefix}{name}"
        if command is None:
            raise UsageError(f"{path}: there is no command {full!r}{_near(name, list(group.commands))}")
        if not isinstance(section, dict):
            raise UsageError(f"{path}: {full} has to be a section, [{full}]")
        if isinstance(command, click.Group):
            values[name] = _sections(path, f"{full}.", command, section)
        else:
            values[name] = dict(_parameters(path, full, command, section))
    return values


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except MalformedError as error:
        raise InputError(f"{path}: is not TOML ({error})") from None


def _parameters(
    path: Path, section: str, command: click.Command, values: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    known = dict(options_of(command))
    for key, value in values.items():
        option = known.get(key.replace("_", "-"))
        if option is None:
            raise UsageError(f"{path}: [{section}] has no option {key!r}{_near(key, list(known))}")
        if isinstance(option, OutwardOption):
            raise UsageError(
                f"{path}: [{section}] {key} starts a program or opens a connection, which no file may ask for: "
                f"take it out, and give {max(option.opts, key=len)} on the command line"
            )
        yield option.name or "", _value(path, f"[{section}] {key}", option, value)


def options_of(command: click.Command) -> Iterator[tuple[str, click.Option]]:
    """The options of a command that a file may set, by their long name without dashes."""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name not in NOT_IN_FILES:
            yield max(parameter.opts, key=len).removeprefix("--"), parameter


def _value(path: Path, where: str, option: click.Option, value: Any) -> Any:
    """`value` in the type the option takes; paths from the folder of the file."""
    if option.is_flag != isinstance(value, bool):
        wanted = "true or false" if option.is_flag else "no true or false"
        raise UsageError(f"{path}: {where} has to be {wanted}, not {value!r}")
    if option.multiple != isinstance(value, list):
        wanted = "a list" if option.multiple else "one value, no list"
        raise UsageError(f"{path}: {where} has to be {wanted}")
    if isinstance(option.type, click.Path):
        place = path.parent
        return [_from(place, one) for one in value] if isinstance(value, list) else _from(place, value)
    return value


def _from(folder: Path, value: Any) -> str:
    return os.path.relpath(folder / str(value)) if not Path(str(value)).is_absolute() else str(value)


def _near(name: str, known: list[str]) -> str:
    found = get_close_matches(name.replace("_", "-"), known, 3, 0.5)
    return f"; did you mean {' or '.join(found)}?" if found else f"; there are {', '.join(sorted(known))}"


def print_configuration(context: click.Context, style: str) -> None:
    """Every option of a command as it would be used, and where its value comes from."""
    found = context.find_root().meta.get(KEY, Configuration())
    origins = {
        ParameterSource.COMMANDLINE: "command line",
        ParameterSource.DEFAULT_MAP: str(found.path),
        ParameterSource.ENVIRONMENT: "environment",
    }
    rows = []
    values = {"log_json": LOG.json, "quiet": LOG.quiet} | context.params
    for name, option in options_of(context.command):
        value = values.get(option.name or "")
        source = context.get_parameter_source(option.name or "")
        rows.append((name, value, origins.get(source, "default") if source is not None else "default"))
    if style == "json":
        print_json({name: {"value": _plain(value), "from": origin} for name, value, origin in rows})
        return
    click.echo(f"{context.command_path}, file: {found.path or 'none'}\n")
    click.echo(render_table(("option", "value", "from"), [(n, _text(v), o) for n, v, o in rows]))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        return ", ".join(_text(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
