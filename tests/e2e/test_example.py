"""`example`: four files, the same on every call, and never over somebody's own."""

from __future__ import annotations

import hashlib
import io
import subprocess
from pathlib import Path

import torch
from PIL import Image

from bhpe_compile.compiler.made_up import made_up_checkpoint
from bhpe_compile.frontends.checkpoint import load_model
from bhpe_compile.networks.choice import choose
from bhpe_compile.networks.registry import get_network
from bhpe_compile.processes import python_command
from tests.command import COMMAND, bhpe, environment, inside, listing
from tests.networks.counting import on_meta

FILES = ["drawn.jpg", "model-bidrn.pt", "model.pt", "person.png"]


def test_files(example: Path) -> None:
    assert listing(example) == FILES
    assert (example / "model.pt").stat().st_size <= 8_000_000
    assert (example / "model-bidrn.pt").stat().st_size <= 3_000_000
    for name in ("person.png", "drawn.jpg"):
        with Image.open(example / name) as picture:
            assert picture.mode == "RGB"
            assert picture.size == (384, 512)


def test_same_bytes_again(example: Path, tmp_path: Path) -> None:
    outcome = bhpe("example", tmp_path / "again", OMP_NUM_THREADS="2")
    assert outcome.code == 0
    assert outcome.stdout.split() == [
        str(tmp_path / "again" / name) for name in ("model.pt", "model-bidrn.pt", "drawn.jpg", "person.png")
    ]
    for name in FILES:
        first, second = (
            hashlib.sha256((folder / name).read_bytes()).digest() for folder in (example, tmp_path / "again")
        )
        assert first == second, name


def test_existing_files_are_kept(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_text("mine")
    outcome = inside("example", tmp_path)
    assert outcome.code == 2
    assert "model.pt" in outcome.stderr
    assert "--force" in outcome.stderr
    assert listing(tmp_path) == ["model.pt"]
    assert (tmp_path / "model.pt").read_text() == "mine"


def test_its_own_files_are_no_obstacle(tmp_path: Path) -> None:
    """As after `make demo`, which writes them; one that was changed since is somebody's own."""
    assert inside("example", tmp_path, "-q").code == 0
    assert inside("example", tmp_path, "-q").code == 0
    (tmp_path / "person.png").write_bytes(b"another person")
    outcome = inside("example", tmp_path)
    assert outcome.code == 2
    assert "other person.png exist" in outcome.stderr
    assert (tmp_path / "person.png").read_bytes() == b"another person"


def test_force_replaces_them(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_text("mine")
    assert inside("example", tmp_path, "--force", "-q").code == 0
    assert (tmp_path / "model.pt").stat().st_size > 1000


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = inside("example", tmp_path / "file" / "demo")
    assert outcome.code == 2
    assert outcome.stderr.startswith("error: ")
    assert outcome.stderr.count("\n") == 1


def test_half_an_example_never_stands(tmp_path: Path) -> None:
    """A full disk, as a limit on file sizes: nothing appears under the names, and the retry is not refused."""
    folder = tmp_path / "demo"
    code = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000,) * 2); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    words = [*COMMAND, "example", str(folder)]
    done = subprocess.run(
        python_command("-c", code, *words), env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert listing(folder) == []
    assert inside("example", folder).code == 0


def test_a_network_by_name(tmp_path: Path) -> None:
    """Of a preset that nobody has published: the file is as `train` writes it; it is the same one again."""
    outcome = inside("example", tmp_path, "--network", "hand4whole:tiny")
    assert outcome.code == 0, outcome.stderr
    assert "hand4whole:tiny was not trained" in outcome.stderr
    assert listing(tmp_path) == ["drawn.jpg", "model.pt", "person.png"]
    assert load_model(tmp_path / "model.pt").spec == "hand4whole:tiny"
    assert inside("example", tmp_path, "--network", "hand4whole:tiny", "-q").code == 0
    outcome = inside("example", tmp_path)
    assert (outcome.code, "other model.pt exist" in outcome.stderr) == (2, True)
    assert inside("example", tmp_path, "--network", "nobody").code == 2


def test_the_published_layout(tmp_path: Path) -> None:
    network = get_network("spin")
    content = torch.load(io.BytesIO(made_up_checkpoint(choose("spin"))), weights_only=True)
    state = content["model"]
    own = on_meta(lambda: network.build("full")).state_dict()
    assert {name: value.shape for name, value in state.items()} == {n: v.shape for n, v in own.items()}
    variances = [value for name, value in state.items() if name.endswith("running_var")]
    assert all(bool(((value > 0) & (value < 1e4)).all()) for value in variances)
    assert any(bool((value != 1).any()) for value in variances)  # measured
