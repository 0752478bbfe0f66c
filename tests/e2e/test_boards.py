"""`run`, `verify` and `bench` on a board, as a user types them; the board is an ssh server of this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.artifact.folders import on_host
from tests.boards import BOARD, KEY
from tests.command import bhpe, inside
from tests.examples import Compiled

pytestmark = on_host


def test_verify(compiled: Compiled, ssh_config: Path) -> None:
    words = ("verify", compiled.folder, "--ssh", BOARD, "--ssh-config", ssh_config, "--format", "json")
    outcome = inside(*words)
    assert outcome.code == 0, outcome.stderr
    found = json.loads(outcome.stdout)
    assert (found["executed"], found["ok"]) == (f"{BOARD} (ssh)", True)
    assert (found["binary_exact"], found["int8_exact"]) == (True, True)


def test_run(compiled: Compiled, example: Path, ssh_config: Path) -> None:
    picture = example / "person.png"
    here = inside("run", compiled.folder, picture, "-q")
    there = inside("run", compiled.folder, picture, "--ssh", BOARD, "--ssh-config", ssh_config)
    assert there.code == 0, there.stderr
    assert json.loads(there.stdout) == json.loads(here.stdout)
    assert there.stderr.startswith(f"ran {BOARD} (ssh) in ")


def test_bench(compiled: Compiled, ssh_config: Path) -> None:
    words = ("bench", compiled.folder, "--rounds", "3", "--ssh", BOARD, "--ssh-config", ssh_config)
    outcome = inside(*words)
    assert outcome.code == 0, outcome.stderr
    rows = dict(line.split(maxsplit=1) for line in outcome.stdout.splitlines())
    assert (rows["CPU"], rows["8-bit"]) == (f"{BOARD} (ssh)", "by pmaddwd")
    assert "of 3 runs" in rows["median"]
    document = json.loads(inside(*words, "--threads", "2", "--format", "json").stdout)
    assert (document["cpu"], document["threads"], document["steps"]) == (f"{BOARD} (ssh)", 2, [])
    assert 0 < document["whole"]["fastest"] <= document["whole"]["median"] <= document["whole"]["p90"]
    refused = inside(*words, "--per-layer")
    assert (refused.code, "--per-layer times on this machine only" in refused.stderr) == (2, True)


def test_rpc(compiled: Compiled, tracker: str) -> None:
    outcome = bhpe(
        "bench", compiled.folder, "--rounds", "2", "--rpc", tracker, "--key", KEY, "--format", "json"
    )
    assert outcome.code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["cpu"] == f"{KEY} (rpc)"
    unknown = inside("verify", compiled.folder, "--rpc", tracker, "--key", "pi")
    assert (unknown.code, f"there are: {KEY}" in unknown.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--rpc", "localhost:9190"), "--rpc and --key belong together"),
        (("--key", "pi"), "--rpc and --key belong together"),
        (("--ssh-config", "x"), "--ssh-config is for --ssh"),
        (("--ssh", "a", "--rpc", "b:1", "--key", "c"), "give one of them"),
        (("--ssh", "a", "--ssh-config", "nowhere"), "nowhere: no such ssh configuration"),
        (("--ssh", "-oProxyCommand=x"), "must be user@host"),
        (("--ssh", "a", "--bisect"), "--bisect runs on this machine"),
    ],
)
def test_contradictions(compiled: Compiled, options: tuple[str, ...], says: str) -> None:
    outcome = inside("verify", compiled.folder, *options)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert says in outcome.stderr
