"""docs/adding-a-network.md, word for word: its package is written, installed and used; then what the page promises."""

from __future__ import annotations

import ctypes
import json
import re
import shlex
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bhpe_compile.artifact.manifest import load_manifest
from bhpe_compile.networks.interface import Interface
from bhpe_compile.processes import python_command
from bhpe_compile.runtime import Model, load_picture, make_feeds
from tests.command import ROOT, Outcome, bhpe, environment, inside
from tests.networks.packages import install_folder, on_path
from tests.shared import made_once

PAGE = (ROOT / "docs" / "adding-a-network.md").read_text()
FILES = dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
(CONSOLE,) = re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LINES = tuple(line.removeprefix("$ ") for line in CONSOLE.splitlines())
(CHANGES,) = re.findall(r"^```toml\n(network = .*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

BOXES = [None, (60.0, 20.0, 200.0, 440.0), (-30.0, 300.0, 90.0, 40.0), (17.3, 0.2, 333.0, 60.7)]


def run_line(line: str, folder: Path) -> Outcome:
    """Do what a line of the page says, in `folder`."""
    program, *words = shlex.split(line)
    if program == "bhpe-compile":
        return inside(*words, cwd=folder)
    if program == "python":
        import subprocess

        done = subprocess.run(
            python_command(*words),
            cwd=folder,
            env=environment(PYTHONPATH=f"{folder}:{ROOT}"),
            capture_output=True,
            text=True,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)
    assert line == "pip install ."
    install_folder(folder)
    return Outcome(0, "", "")


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Outcome]]]:
    """The folder in which somebody followed the page, and what every command answered; the package is installed."""

    pytest.importorskip("accelerate")

    def make(folder: Path) -> None:
        for name, content in FILES.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content)
        (folder / "changed.toml").write_text(CHANGES)
        answers = {}
        with on_path(folder):
            for line in LINES:
                answer = run_line(line, folder)
                assert answer.code == 0, f"{line}: {answer.stderr}"
                answers[line] = asdict(answer)
        (folder / "answers.json").write_text(json.dumps(answers))

    folder = made_once(tmp_path_factory, "adding-a-network", make)
    answers = json.loads((folder / "answers.json").read_text())
    with on_path(folder):
        yield folder, {line: Outcome(**answer) for line, answer in answers.items()}


Followed = tuple[Path, dict[str, Outcome]]


def answer_of(followed: Followed, words: str) -> str:
    """What the one command that begins with `words` printed."""
    (found,) = [answer.stdout for line, answer in followed[1].items() if line.startswith(words)]
    return found


def test_the_page_has_what_is_run() -> None:
    assert list(FILES) == [
        "pyproject.toml",
        "tiny_poses/module.py",
        "tiny_poses/description.py",
        "make_checkpoint.py",
    ]
    assert LINES[0] == "pip install ."
    commands = {line.split()[1] for line in LINES if line.startswith("bhpe-compile ")}
    assert commands == {"networks", "report", "compile", "verify", "example", "run", "explain", "distill"}


def test_it_is_listed_with_its_package(followed: Followed) -> None:
    """In a process of its own, as the user's is; describing a network imports no torch."""
    folder, _ = followed
    answer = bhpe("networks", "--format", "json", PYTHONPATH=f"{folder}:{ROOT}")
    listed = {one["name"]: one for one in json.loads(answer.stdout)}
    assert listed["boxpose"] == {
        "name": "boxpose",
        "presets": ["small"],
        "source": "tiny-poses 0.1",
        "summary": "five keypoints, three rotations and a camera",
    }
    assert "boxpose" in answer_of(followed, "bhpe-compile networks")


def test_the_manifest_holds_the_description(followed: Followed) -> None:
    from tiny_poses.description import NETWORK  # type: ignore[import-not-found]

    folder, _ = followed
    manifest = load_manifest(folder / "dist" / "boxpose-x86")
    assert Interface.from_dict(manifest["network"]) == Interface.from_dict(
        NETWORK.interface("small").to_dict()
    )
    assert [port["name"] for port in manifest["inputs"]] == ["image", "bbox"]
    assert manifest["model"]["ignored_keys"] == ["smpl.faces"]
    assert manifest["options"]["scheme"] == "bidrn"
    int8 = load_manifest(folder / "dist" / "boxpose-int8")
    assert int8["network"] == manifest["network"]


@pytest.mark.parametrize(
    ("artefact", "binary", "where"),
    [("x86", 4, "in this process"), ("int8", 0, "in this process"), ("arm", 4, "(qemu-aarch64|unicorn)")],
)
def test_it_computes_what_the_network_computes(
    followed: Followed, artefact: str, binary: int, where: str
) -> None:
    told = answer_of(followed, f"bhpe-compile verify dist/boxpose-{artefact}")
    assert re.search(r"verified +yes", told)
    assert re.search(rf"executed +{where}", told)
    layers = f"{binary} binary and 5 8-bit" if binary else "9 8-bit"
    assert re.search(rf"equal +all {layers} layers, ", told)


def test_roles_and_the_override(followed: Followed) -> None:
    folder, _ = followed
    rows = json.loads((folder / "dist" / "boxpose-x86" / "report.json").read_text())["layers"]
    assert {row["name"]: row["role"] for row in rows} == {
        "stem.0": "stem",
        **{f"trunk.{i}.{name}.0": "core" for i in (0, 1) for name in ("first", "second")},
        **{f"trunk.{i}.around.0": "shortcut" for i in (0, 1)},
        **dict.fromkeys(("heat", "mix.0", "turn", "camera"), "head"),
    }
    told = answer_of(followed, "bhpe-compile explain")
    assert re.search(r"trunk\.0\.first\.0\n=+\nbecame +binary convolution", told)
    assert re.search(r"mix\.0\n=+\nbecame +convolution, 8-bit", told)
    assert "head: not binary in any scheme" in told


def test_a_student_is_distilled_from_bare_pictures(followed: Followed) -> None:
    """It says what replaced which activation; compiled, it is the student's binary form, with its own ranges."""
    told = answer_of(followed, "bhpe-compile distill boxpose.pt")
    assert re.search(r"activations +5 of 6 ReLU became Hardtanh before \(4\) and RPReLU behind \(4\)", told)
    manifest = load_manifest(followed[0] / "dist" / "boxpose-student")
    assert manifest["trained_binary"]
    assert manifest["calibration"]["source"] == "training"
    assert re.search(r"verified +yes", answer_of(followed, "bhpe-compile verify dist/boxpose-student"))


def test_the_report_has_its_own_stages(followed: Followed) -> None:
    for words in ("bhpe-compile report dist/boxpose-x86", "bhpe-compile report --network boxpose"):
        _, _, table = answer_of(followed, words).partition("BY STAGE\n")
        stages = [line.split()[:2] for line in table.splitlines()[2:4]]
        assert stages == [["trunk", "7"], ["heads", "4"]]


def test_the_pose_and_the_picture(followed: Followed) -> None:
    folder, _ = followed
    told = json.loads((folder / "pose.json").read_text())
    assert told["network"] == "boxpose"
    (pose,) = told["people"]
    assert pose["box"] == list(BOXES[1])
    with Model(folder / "dist" / "boxpose-x86") as model:
        picture = load_picture(folder / "demo" / "person.png", BOXES[1])
        outputs = model.run(picture)
        port, output = model.interface.picture, model.interface.keypoints
    np.testing.assert_allclose(pose["camera"]["values"], outputs["camera"][0], atol=1e-6)
    assert port is not None
    assert output is not None
    points = picture.seen_by(port).keypoints(output, outputs["points"])
    assert list(pose["joints"]) == list(output.names)
    np.testing.assert_allclose(list(pose["joints"].values()), points, atol=0.006)
    drawn, plain = (
        np.asarray(Image.open(folder / name).convert("RGB")) for name in ("seen.png", "demo/person.png")
    )
    changed = (drawn != plain).any(axis=2)
    for x, y in points:
        assert changed[round(y), round(x)]
    assert changed.mean() < 0.1


@pytest.mark.parametrize("focal", [None, 900.0])
@pytest.mark.parametrize("box", BOXES)
def test_c_fills_both_inputs_with_the_bits_of_python(
    followed: Followed, box: tuple[float, float, float, float] | None, focal: float | None
) -> None:
    folder, _ = followed
    picture = load_picture(folder / "demo" / "person.png", box, focal)
    height, width = picture.rgb.shape[:2]
    with Model(folder / "dist" / "boxpose-x86") as model:
        feeds = make_feeds(model.interface, picture)
        rgb = np.ascontiguousarray(picture.rgb)
        given = None if box is None else (ctypes.c_double * 4)(*box)
        if focal is not None:
            assert model._library.set_focal(model._handle, focal) == 0
        status = model._library.set_frame(
            model._handle, rgb.ctypes.data, width, height, 3 * width, given, None
        )
        assert status == 0
        for index, name in enumerate(("image", "bbox")):
            found = model.input(index)
            assert found.any()
            assert np.array_equal(found.view(np.uint32), feeds[name].view(np.uint32)), name


def test_the_wheel_computes_the_same(followed: Followed, tmp_path: Path) -> None:
    folder, _ = followed
    (wheel,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    (package,) = (path.parent.name for path in tmp_path.glob("*/__init__.py"))
    picture = load_picture(folder / "demo" / "person.png", BOXES[3])
    with Model(folder / "dist" / "boxpose-int8") as model:
        expected = model.run(picture)
    with on_path(tmp_path):
        module = __import__(package)
        with module.Model() as model:
            found = model.run(picture.rgb, BOXES[3])
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)


def test_the_focal_length_reaches_the_network(followed: Followed) -> None:
    folder, _ = followed
    file, artefact = folder / "demo" / "person.png", folder / "dist" / "boxpose-x86"
    with Model(artefact) as model:
        known = model.run(file, BOXES[3], 900.0)
        unknown = model.run(file, BOXES[3])  # nothing of it is kept
        again = model.run(load_picture(file, BOXES[3], 900.0))
    assert not np.array_equal(known["camera"], unknown["camera"])
    assert all(np.array_equal(known[name], again[name]) for name in known)
    words = ("run", artefact, file, "--box", ",".join(map(str, BOXES[3] or ())), "--raw")
    shown = json.loads(inside(*words, "--focal", "900").stdout)
    np.testing.assert_allclose([shown["camera"]], known["camera"], rtol=1e-6)  # as it is printed


def test_the_box_reaches_the_network(followed: Followed) -> None:
    folder, _ = followed
    with Model(folder / "dist" / "boxpose-x86") as model:
        feeds = make_feeds(model.interface, load_picture(folder / "demo" / "person.png"))
        before = model.run(feeds)
        after = model.run({**feeds, "bbox": feeds["bbox"] + 1})
    assert np.array_equal(before["points"], after["points"])
    assert not np.array_equal(before["camera"], after["camera"])


@pytest.mark.parametrize("artefact", ["x86", "int8"])
def test_torch_and_every_stage_agree_on_another_picture(followed: Followed, artefact: str) -> None:
    folder, _ = followed
    words = (folder / "dist" / f"boxpose-{artefact}", "--model", folder / "boxpose.pt", "--format", "json")
    answer = inside("verify", *words, "--picture", folder / "demo" / "person.png")
    assert answer.code == 0, answer.stderr
    told = json.loads(answer.stdout)
    assert (told["ok"], told["equal"], told["float_parts"]) == (True, True, [])
    assert told["pictures"] == 1
    assert told["tolerances"]["camera"] == pytest.approx(1e-3)  # its own is for float layers in front


def test_bisecting_compares_every_stage(followed: Followed) -> None:
    folder, _ = followed
    words = (folder / "dist" / "boxpose-x86", "--bisect", "--model", folder / "boxpose.pt")
    answer = inside("verify", *words, "--picture", folder / "demo" / "person.png")
    assert answer.code == 0, answer.stderr
    assert "no difference" in answer.stdout


def test_it_is_timed_on_both_inputs(followed: Followed) -> None:
    answer = inside(
        "bench", followed[0] / "dist" / "boxpose-x86", "--rounds", "2", "--per-layer", "--format", "json"
    )
    assert answer.code == 0, answer.stderr
    assert json.loads(answer.stdout)["whole"]["median"] > 0


def test_a_changed_description_and_pictures_of_the_user(followed: Followed, tmp_path: Path) -> None:
    """Ranges of 8-bit layers come from pictures, the box of each is its own; a file changes what is described."""
    folder, _ = followed
    out = tmp_path / "out"
    words = ("--target", "x86", "--scheme", "int8", "-o", out, "--network", folder / "changed.toml")
    answer = inside("compile", folder / "boxpose.pt", *words, "--calibrate", folder / "demo" / "person.png")
    assert answer.code == 0, answer.stderr
    manifest = load_manifest(out)
    assert manifest["calibration"] == {"source": "user", "pictures": 1}
    interface = Interface.from_dict(manifest["network"])
    assert interface.picture is not None
    assert interface.picture.crop is not None
    assert interface.picture.crop.enlarge == 1.1
    assert interface.output("camera").bound == 0.02
    again = ("verify", out, "--model", folder / "boxpose.pt", "--format", "json")
    refused = inside(*again)
    assert refused.code == 2
    assert (
        "calibrated on pictures that the artefact does not hold: name them with --calibrate" in refused.stderr
    )
    answer = inside(*again, "--calibrate", folder / "demo" / "person.png")
    assert answer.code == 0, answer.stderr
    assert json.loads(answer.stdout)["equal"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            "[outputs.points]\nshape = [1, 6, 2]\n",
            r"points is \[1, 6, 2\] in the description.* returns \[1, 5, 2\]",
        ),
        ("[inputs.image]\nshape = [1, 3, 64, 96]\n", "does not take the inputs of its description"),
        (
            '[outputs.points]\nname = "joints"\n',
            "an output joints, and its module returns points, rotations, camera",
        ),
    ],
)
def test_a_description_that_does_not_fit_the_module(
    followed: Followed, tmp_path: Path, change: str, says: str
) -> None:
    folder, _ = followed
    (tmp_path / "wrong.toml").write_text(f'network = "boxpose"\n{change}')
    words = ("--target", "x86", "-o", tmp_path / "out", "-q", "--network", tmp_path / "wrong.toml")
    answer = inside("compile", folder / "boxpose.pt", *words)
    assert answer.code == 3
    assert re.fullmatch(rf"error: .*network boxpose: .*{says}.*\n", answer.stderr), answer.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("drop", "says"),
    [
        ("module.camera.", "2 missing: camera.weight, camera.bias"),
        ("module.trunk.", "30 missing: trunk.0.first.0.weight"),
    ],
)
def test_what_is_missing_of_its_checkpoint_is_named(
    followed: Followed, tmp_path: Path, drop: str, says: str
) -> None:
    import torch

    folder, _ = followed
    content = torch.load(folder / "boxpose.pt", weights_only=True)
    content["model"] = {k: v for k, v in content["model"].items() if not k.startswith(drop)}
    torch.save(content, tmp_path / "less.pt")
    answer = inside("compile", tmp_path / "less.pt", "--target", "x86", "-o", tmp_path / "out", "-q")
    assert answer.code == 3
    assert f"less.pt: not a checkpoint of this network; {says}" in answer.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("eval dist/boxpose-x86", 3, "dist/boxpose-x86: has no outputs that pose a whole body"),
        ("eval boxpose.pt", 3, "boxpose.pt: has no outputs that pose a whole body"),
        ("sensitivity boxpose.pt", 3, "boxpose.pt: has no outputs that pose a whole body"),
        ("compile boxpose.pt --target x86 -o o --max-drop 5%", 3, "has no outputs that pose a whole body"),
        ("train --network boxpose -o o.pt", 2, "boxpose: its description does not say what labels mean"),
        (
            "distill boxpose.pt --images demo -o o.pt --own-boxes 1",
            2,
            "--own-boxes: boxpose:small crops nothing for itself",
        ),
        (
            "distill boxpose.pt --images demo -o o.pt --loss-weight pose=2",
            2,
            "the terms and their weights are points (1), rotations (4), camera (1), features (1)",
        ),
        ("distill boxpose.pt --images demo -o o.pt --label-weight 1", 2, "demo: has no labels"),
    ],
)
def test_what_its_description_does_not_allow_is_refused_before_work(
    followed: Followed, words: str, code: int, says: str
) -> None:
    """No people are drawn for a network that cannot be measured on them."""
    answer = inside(*words.split(), cwd=followed[0])
    assert (answer.code, answer.stdout) == (code, "")
    assert says in answer.stderr.splitlines()[-1]
    assert "people drawn" not in answer.stderr


def test_without_the_package_the_artefact_still_runs(followed: Followed, tmp_path: Path) -> None:
    """Everything it needs is in the folder; only making it again, or counting the original, needs the package."""
    folder, _ = followed
    artefact = folder / "dist" / "boxpose-x86"
    answer = bhpe("run", artefact, folder / "demo" / "person.png", "--overlay", tmp_path / "seen.png", "-q")
    assert answer.code == 0, answer.stderr
    told = json.loads(answer.stdout)
    assert (told["network"], set(told["people"][0]["rotations"])) == ("boxpose", {"pelvis", "neck", "head"})
    answer = bhpe("report", artefact)
    assert answer.code == 0, answer.stderr
    assert "trunk" in answer.stdout
    answer = bhpe("networks")
    assert "boxpose" not in answer.stdout
