"""`run` on folders, films and cameras: a line a frame, people followed, what is damaged told, Ctrl-C harmless; and
every command of docs/films.md."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bhpe_compile.runtime.film import FilmWriter, open_film
from tests.command import COMMAND, ROOT, bhpe, environment, inside
from tests.examples import Compiled
from tests.films import FRAMES, shade

pytest.importorskip("av")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def truth(walk: Path) -> dict[tuple[int, int], np.ndarray]:
    """Middle and size of a person's box by frame and id."""
    found = {}
    for line in walk.with_suffix(".txt").read_text().splitlines():
        frame, who, x, y, w, h = map(int, line.split(",")[:6])
        found[frame - 1, who] = np.array([x + w / 2, y + h / 2, w, h])
    return found


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, example: Path) -> Path:
    """A folder of two pictures, and one that is damaged."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("a.png", "c.png"):
        Image.open(example / "person.png").save(folder / name)
    content = (folder / "a.png").read_bytes()
    (folder / "b.png").write_bytes(content[: len(content) // 2])
    return folder


def test_a_folder_with_a_damaged_picture(photos: Path, compiled: Compiled, tmp_path: Path) -> None:
    output, overlay = tmp_path / "poses.jsonl", tmp_path / "drawn"
    outcome = inside("run", compiled.folder, photos, "-o", output, "--overlay", overlay)
    assert outcome.code == 3
    assert "b.png: is a damaged picture" in outcome.stderr
    assert outcome.stderr.splitlines()[-1].startswith("error: 1 of 3 pictures are damaged and were skipped")
    found = lines(output)
    assert [(one["frame"], Path(one["file"]).name) for one in found] == [(0, "a.png"), (2, "c.png")]
    assert found[0]["people"] == found[1]["people"]
    assert set(found[0]["units"]) == set(found[0]["people"][0])
    assert sorted(path.name for path in overlay.iterdir()) == ["a.png", "c.png"]
    document = json.loads(inside("run", compiled.folder, photos / "a.png").stdout)
    assert found[0]["people"] == document["people"]


def test_patterns_and_standard_output(photos: Path, compiled: Compiled) -> None:
    outcome = inside("run", compiled.folder, f"{photos}/[ac].png", "-q")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert len([json.loads(line) for line in outcome.stdout.splitlines()]) == 2
    single = inside("run", compiled.folder, photos / "a.png", "--raw", "-q")
    many = inside("run", compiled.folder, f"{photos}/[ac].png", "--raw", "-q")
    assert json.loads(many.stdout.splitlines()[0])["people"] == [json.loads(single.stdout)]


def test_an_overlay_replaces_no_input(photos: Path, compiled: Compiled) -> None:
    before = (photos / "a.png").read_bytes()
    outcome = inside("run", compiled.folder, f"{photos}/[ac].png", "--overlay", photos)
    assert outcome.code == 2
    assert "is one of the pictures" in outcome.stderr
    assert (photos / "a.png").read_bytes() == before


def test_two_people_who_pass_each_other(walk: Path, compiled_bidrn: Compiled, tmp_path: Path) -> None:
    """Both keep their identity: the one box that each was given in the first frame, nothing else."""
    first = [line.split(",")[2:6] for line in walk.with_suffix(".txt").read_text().splitlines()[:2]]
    (tmp_path / "first.json").write_text(json.dumps([[float(v) for v in box] for box in first]))
    output, overlay = tmp_path / "poses.jsonl", tmp_path / "poses.mp4"
    outcome = inside(
        *("run", compiled_bidrn.folder, walk, "--boxes", tmp_path / "first.json", "--track", "--smooth"),
        *("-o", output, "--overlay", overlay),
    )
    assert outcome.code == 0, outcome.stderr
    assert "smoothing lags 106 ms behind at rest" in outcome.stderr
    assert re.search(rf"{FRAMES} frames in this process in [\d.]+ s, [\d.]+ frames/s; wrote", outcome.stderr)
    found, where = lines(output), truth(walk)
    assert [one["frame"] for one in found] == list(range(FRAMES))
    seen = 0
    for one in found:
        for person in one["people"]:
            x, _, w, _ = person["box"]
            middle = where[one["frame"], person["id"]]
            if (
                one["frame"] < 20 or one["frame"] > 52
            ):  # 200 pixels apart: everybody where it is, under its first name
                assert abs(x + w / 2 - middle[0]) < 70, (one["frame"], person["id"])
            seen += 1
    assert seen > 1.6 * FRAMES
    assert len(found[-1]["people"]) == 2
    with open_film(overlay) as film, open_film(walk) as original:
        for drawn, frame in zip(film, original, strict=True):
            assert drawn.time == pytest.approx(frame.time, abs=1e-4)
            assert drawn.rgb.shape == frame.rgb.shape


def test_smoothing_calms_joints(walk: Path, compiled_bidrn: Compiled, tmp_path: Path) -> None:
    words = ("run", compiled_bidrn.folder, walk, "--boxes", walk.with_suffix(".txt"), "--frames", "25", "-q")
    plain = inside(*words)
    smooth = inside(*words, "--smooth")
    assert (plain.code, smooth.code) == (0, 0), plain.stderr + smooth.stderr

    def shaking(text: str, what: str) -> float:
        people = [json.loads(line)["people"][0] for line in text.splitlines()]
        values = np.array(
            [list(one[what].values())[1:22] for one in people]
        )  # the root turns by pi: its signs jump
        return float(np.abs(np.diff(values, 2, axis=0)).mean())

    for what in ("joints", "rotations"):
        assert shaking(smooth.stdout, what) < 0.5 * shaking(plain.stdout, what), what
    pictures = inside("run", compiled_bidrn.folder, walk, "--smooth-by", "0,1")
    assert pictures.code == 2


def test_ctrl_c_leaves_a_film_and_whole_lines(walk: Path, compiled_bidrn: Compiled, tmp_path: Path) -> None:
    """The interruption comes after the first frames."""
    output, overlay = tmp_path / "poses.jsonl", tmp_path / "poses.mp4"
    process = subprocess.Popen(
        [*COMMAND, "run", compiled_bidrn.folder, walk, "-o", "/dev/stdout", "--overlay", overlay],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        begun = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    output.write_text("".join(begun) + out)
    assert process.returncode == 130, err
    found = lines(output)
    count = len(found)
    assert 2 <= count < FRAMES
    assert err.splitlines()[-1].startswith(f"error: interrupted after {count} frames")
    with open_film(overlay) as film:
        assert len(list(film)) == count


def test_a_film_that_is_cut_off_leaves_what_was_before(
    walk: Path, compiled_bidrn: Compiled, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.mkv"
    writer = FilmWriter(cut, 25.0)
    with open_film(walk) as film:
        for frame in film:
            writer.write(frame.rgb, frame.time)
    writer.close()
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    output, overlay = tmp_path / "poses.jsonl", tmp_path / "poses.mp4"
    outcome = inside("run", compiled_bidrn.folder, cut, "-o", output, "--overlay", overlay, "-q")
    assert outcome.code == 3
    assert outcome.stderr.startswith("error: ")
    assert outcome.stderr.count("\n") == 1
    assert "cut off" in outcome.stderr
    found = lines(output)
    assert 3 < len(found) < FRAMES
    with open_film(overlay) as film:
        assert len(list(film)) == len(found)


def test_what_cannot_be_read_replaces_nothing(compiled: Compiled, tmp_path: Path) -> None:
    output = tmp_path / "poses.jsonl"
    output.write_text("earlier\n")
    (tmp_path / "film.mp4").write_bytes(b"no film")
    outcome = inside("run", compiled.folder, tmp_path / "film.mp4", "-o", output)
    assert outcome.code == 3
    assert output.read_text() == "earlier\n"


def test_a_full_disk_is_one_line(walk: Path, compiled_bidrn: Compiled, tmp_path: Path) -> None:
    overlay = tmp_path / "poses.mp4"
    outcome = inside(
        "run", compiled_bidrn.folder, walk, "--frames", "3", "-o", "/dev/full", "--overlay", overlay, "-q"
    )
    assert outcome.code == 2
    assert outcome.stderr == "error: /dev/full: cannot be written (No space left on device)\n"
    assert not overlay.exists()  # no frame got so far


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("--camera", "97"), 2, "camera 97: /dev/video97 is not there"),
        ((), 2, "name a picture, a folder, a film, or --camera N"),
        (("person.png", "--camera", "0"), 2, "run on the one or on the other"),
        (("person.png", "--box", "0,0,9,9", "--boxes", "b.json"), 2, "give one of them"),
        (("missing.mp4",), 2, "missing.mp4: no such film"),
        (("person.png", "--boxes", "missing.json"), 2, "no such file of boxes"),
        (("person.png", "--boxes", "nan.json"), 3, "NaN is no number"),
        (("person.png", "--boxes", "far.json"), 3, "lies outside it"),
        (("person.png", "--overlay", "x.mp4"), 2, "is a film, and there is one picture"),
        (("film.mp4", "--overlay", "x.png"), 2, "name a folder, or a film"),
        (("film.mp4", "--overlay", "film.mp4"), 2, "film.mp4: is what is read"),
        (("film.mp4", "--overlay", "x.avi"), 2, "name a folder, or a film"),
        (("film.mp4", "-o", "x.npz"), 2, "arrays are written of one picture"),
        (("film.mp4", "--boxes", "far.json"), 3, "film.mp4, frame 0 lies outside it"),
        (("film.mp4", "--boxes", "first.json"), 2, "add --track"),
        (("person.png", "--draw", "mesh"), 2, "--draw is for --overlay: add it"),
        (("person.png", "--body", "open"), 2, "--body is for --mesh and --draw mesh: add it"),
        (("person.png", "--mesh", "x.fbx"), 2, ".glb, .obj, .ply"),
        (("person.png", "--mesh", "x.ply", "--body", "missing.npz"), 2, "missing.npz: no such file"),
        (("a.png", "person.png", "--smooth"), 2, "is for films and cameras"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: tuple[str, ...], code: int, what: str, compiled: Compiled, example: Path, tmp_path: Path
) -> None:
    if "--mesh" in words:
        pytest.importorskip("anny")
    for name in ("person.png", "a.png"):
        Image.open(example / "person.png").save(tmp_path / name)
    (tmp_path / "nan.json").write_text("[[1, 2, 3, NaN]]")
    (tmp_path / "far.json").write_text("[[[5000, 10, 30, 40]]]")
    (tmp_path / "first.json").write_text("[[2, 2, 30, 40]]")
    writer = FilmWriter(tmp_path / "film.mp4", 25.0)
    for number in range(2):
        writer.write(shade(number))
    writer.close()
    outcome = inside("run", compiled.folder, *words, "-q", cwd=tmp_path)
    assert outcome.code == code, outcome.stderr
    assert what in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_memory_does_not_grow(compiled_bidrn: Compiled, tmp_path: Path) -> None:
    """Between frame 200 and 700 of a small film, a megabyte at most."""
    writer = FilmWriter(tmp_path / "film.mkv", 25.0)
    for number in range(700):
        writer.write(shade(number % 40))
    writer.close()
    script = (
        "import sys\n"
        "from bhpe_compile.runtime.film import open_film\n"
        "from bhpe_compile.runtime.stream import Finder, Where, describe_frame, open_runner\n"
        "def resident():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * 4\n"
        "from pathlib import Path\n"
        "with open_runner(Path(sys.argv[1])) as runner, open_film(Path(sys.argv[2])) as film:\n"
        "    find = Finder(runner, Where())\n"
        "    for frame in film:\n"
        "        describe_frame(frame, find(frame), runner.interface)\n"
        "        if frame.number in (200, 699):\n"
        "            print(resident())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, compiled_bidrn.folder, tmp_path / "film.mkv"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    early, late = map(int, done.stdout.split())
    assert late - early < 1024


def test_every_command_of_the_page(walk: Path, compiled_bidrn: Compiled, tmp_path: Path) -> None:
    """In their order, in one folder; the film is the one that the first command would draw; there is no camera."""
    pytest.importorskip("pygltflib")
    page = (ROOT / "docs" / "films.md").read_text()
    commands = [line for line in page.splitlines() if line.startswith("bhpe-compile ")]
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "model-bidrn-x86").symlink_to(compiled_bidrn.folder)
    for suffix in (".mp4", ".txt"):
        (tmp_path / f"walk{suffix}").symlink_to(walk.with_suffix(suffix))
    ran = 0
    for command in commands:
        words = shlex.split(command)[1:]
        if words[:2] == ["data", "film"] or "--camera" in words:
            continue
        outcome = inside(*words, cwd=tmp_path)
        assert outcome.code == 0, f"{command}\n{outcome.stderr}"
        for option in ("-o", "--overlay", "--mesh"):
            if option in words:
                assert (tmp_path / words[words.index(option) + 1]).exists(), command
        ran += 1
    assert ran >= 7
    helped = bhpe("run", "--help").stdout
    for option in set(re.findall(r"`(--[a-z-]+)", page)) - {"--form"}:
        assert option in helped, option
