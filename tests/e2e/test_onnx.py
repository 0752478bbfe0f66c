"""The command line with ONNX files: in as they are, out as pictures' points or as arrays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from bhpe_compile.api import compile_model
from tests.command import inside
from tests.e2e.test_bad_input import assert_one_error
from tests.examples import Compiled
from tests.onnx_graphs import Net, landmarks, save

DESCRIPTION = """
name = "two points"

[inputs.image]
kind = "picture"
crop = {divisor = 255.0, mean = [0.5, 0.5, 0.5], deviation = [0.5, 0.5, 0.5]}

[outputs.points]
kind = "keypoints"
shape = [1, 5, 2]
names = ["a", "b", "c", "d", "e"]

[skeleton]
bones = [["a", "b"]]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file, its description, pictures, and its artefacts in float and in 8 bits."""
    place = tmp_path_factory.mktemp("onnx")
    save(landmarks(), place / "net.onnx")
    (place / "net.toml").write_text(DESCRIPTION)
    (place / "pictures").mkdir()
    drawn = np.random.default_rng(0)
    for index in range(2):
        pixels = drawn.integers(0, 256, (40, 30, 3), np.uint8)
        Image.fromarray(pixels).save(place / "pictures" / f"{index}.png")
    words = ("net.onnx", "--target", "native", "--network", "net.toml", "-q")
    for more in (("--scheme", "float", "-o", "float"), ("--calibrate", "pictures", "-o", "int8")):
        outcome = inside(*words, *more, cwd=place)
        assert (outcome.code, outcome.stdout) == (0, ""), outcome.stderr
    return place


@pytest.mark.parametrize("form", ["float", "int8"])
def test_pictures_go_in_and_points_come_out(form: str, folder: Path) -> None:
    outcome = inside("run", form, "pictures/0.png", "--overlay", "seen.png", "-q", cwd=folder)
    assert outcome.code == 0, outcome.stderr
    (person,) = json.loads(outcome.stdout)["people"]
    assert list(person["joints"]) == ["a", "b", "c", "d", "e"]
    assert Image.open(folder / "seen.png").size == (30, 40)


def test_arrays_go_in_and_come_out(folder: Path) -> None:
    reference = np.load(folder / "float" / "reference.npz")
    np.save(folder / "image.npy", reference["image"])
    outcome = inside("run", "float", "--input", "image=image.npy", "-o", "out.npz", cwd=folder)
    assert outcome.code == 0, outcome.stderr
    out = np.load(folder / "out.npz")
    assert list(out) == ["points"]
    np.testing.assert_allclose(out["points"], reference["points"], rtol=0, atol=1e-5)
    printed = inside("run", "float", "--input", "image=image.npy", "-q", cwd=folder)
    assert np.shape(json.loads(printed.stdout)["points"]) == (5, 2)


@pytest.mark.parametrize("form", ["float", "int8"])
def test_an_artefact_against_its_file(form: str, folder: Path) -> None:
    """What is proven: model.onnx is what the file gives. What is measured: how far it is from the file in float."""
    outcome = inside("verify", form, "--model", "net.onnx", "--format", "json", cwd=folder)
    assert outcome.code == 0, outcome.stderr
    result = json.loads(outcome.stdout)
    assert (result["ok"], result["remade"], list(result["against_file"])) == (True, True, ["points"])
    gap = result["against_file"]["points"]
    assert gap < 1e-5 if form == "float" else 1e-4 < gap < 0.2
    told = inside("verify", form, "--model", "net.onnx", cwd=folder).stdout
    assert "is what --model gives with the recorded options, byte for byte" in told
    assert ("a distance: nothing bounds it in 8 bits" in told) is (form == "int8")


def test_how_far_8_bits_move_the_outputs(folder: Path) -> None:
    """As compiling measured it on the same pictures; a limit that is missed is exit code 5."""
    manifest = json.loads((folder / "int8" / "manifest.json").read_text())
    words = ("eval", "int8", "float", "--against", "net.onnx", "--images", "pictures", "-q")
    outcome = inside(*words, "--format", "json", cwd=folder)
    eight, floats = json.loads(outcome.stdout)["rows"]
    assert eight["moved"] == manifest["agreement"]
    assert eight["moved"]["joints"]["pictures"] == 2
    assert 0 < eight["moved"]["joints"]["value"] < 1
    assert floats["moved"]["joints"]["value"] < 1e-5
    assert json.loads((folder / "float" / "manifest.json").read_text())["agreement"] == {}
    held = inside(*words, "--max-moved", "joints=1px", cwd=folder)
    assert (held.code, held.stdout.split()[:4]) == (0, ["against", "net.onnx,", "2", "inputs"]), held.stderr
    missed = inside(*words, "--max-moved", "joints=0.0001", cwd=folder)
    assert missed.code == 5
    assert "int8: joints move by" in missed.stderr
    assert "float:" not in missed.stderr
    told = inside("verify", "int8", cwd=folder).stdout
    assert "bhpe-compile eval int8 --against FILE --images PICTURES" in told


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("int8", "--against", "net.onnx"), 2, "name them with --images"),
        (("int8", "--images", "pictures"), 2, "--images is for --against FILE"),
        (("int8", "--against", "no.onnx", "--images", "pictures"), 2, "no.onnx: no such model"),
        (("net.onnx", "--against", "net.onnx", "--images", "pictures"), 2, "net.onnx: is no artefact"),
        (
            ("int8", "--against", "net.onnx", "--images", "pictures", "--count", "2"),
            2,
            "--count says nothing",
        ),
        (
            ("int8", "--against", "net.onnx", "--images", "pictures", "--max-moved", "joint=1"),
            2,
            "is no limit",
        ),
        (
            ("int8", "--against", "net.onnx", "--images", "pictures", "--max-moved", "boxes=1"),
            2,
            "only joints",
        ),
        (("int8",), 3, "--against FILE --images PICTURES"),
    ],
)
def test_comparisons_that_say_nothing(words: tuple[str, ...], code: int, says: str, folder: Path) -> None:
    assert_one_error(inside("eval", *words, "-q", cwd=folder), code, says)


def test_a_file_beside_its_artefacts(folder: Path) -> None:
    outcome = inside("compare", "net.onnx", "float", "int8", "--format", "json", cwd=folder)
    assert outcome.code == 0, outcome.stderr
    file, floats, eight = json.loads(outcome.stdout)["subjects"]
    count = sum(np.prod(one.dims) for one in landmarks().graph.initializer if one.name.endswith(".weight"))
    assert (file["source"], file["bytes"]) == ("ONNX file", (folder / "net.onnx").stat().st_size)
    assert (
        file["weights"]["float32"]
        == sum(floats["weights"].values())
        == sum(eight["weights"].values())
        == count
    )
    assert file["layer_bytes"] == 4 * count
    assert file["macs"]["float32"] == sum(eight["macs"].values())
    assert inside("compare", "net.onnx", "int8", "--max-size", "1k", "-q", cwd=folder).code == 5
    assert_one_error(inside("compare", "net.toml", "int8", "-q", cwd=folder), 3, "net.toml")


def test_a_checkpoint_is_compared_like_a_file(folder: Path, compiled: Compiled, example: Path) -> None:
    words = ("--images", "pictures", "-q")
    outcome = inside("eval", compiled.folder, "--against", example / "model.pt", *words, cwd=folder)
    assert outcome.code == 0, outcome.stderr
    assert [line.split()[0] for line in outcome.stdout.splitlines()[2:]] == [
        *("joints", "rotations", "boxes", "camera", "coefficients")
    ]
    outcome = inside("eval", compiled.folder, "--against", "net.onnx", *words, cwd=folder)
    assert_one_error(outcome, 3, "has other inputs than the artefact")
    outcome = inside("eval", "int8", "--against", example / "model.pt", *words, cwd=folder)
    assert_one_error(outcome, 2, "is a checkpoint, and int8 was made of an ONNX file")


def test_8_bits_that_move_too_far_are_told(tmp_path: Path) -> None:
    """One example that is a thousand times larger than the other: hardly a level is left for that one."""
    net = Net()
    maps = net.add("Conv", "image", net.constant(net.normal(8, 3, 1, 1)))
    save(net.model({"image": (1, 3, 8, 8)}, [maps]), tmp_path / "net.onnx")
    drawn = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    drawn[0] *= 1000
    np.savez(tmp_path / "two.npz", image=drawn)
    outcome = inside("net.onnx", "--target", "native", "--calibrate", "two.npz", "-o", "out", cwd=tmp_path)
    assert outcome.code == 0, outcome.stderr
    assert "warning: net.onnx: 8 bits move values by" in outcome.stderr
    assert "(--calibrate, 1 so far)" in outcome.stderr
    assert "against full precision, 2 pictures" in outcome.stdout
    with pytest.warns(UserWarning, match=r"net\.onnx: 8 bits move values by"):
        compile_model(
            tmp_path / "net.onnx", target="native", calibrate=[tmp_path / "two.npz"], output=tmp_path / "api"
        )


def test_binary_layers_that_nobody_trained_are_told_with_the_way_to_train_them(
    folder: Path, tmp_path: Path
) -> None:
    words = ("net.onnx", "--target", "native", "--network", "net.toml", "--scheme", "bidrn")
    outcome = inside(*words, "--calibrate", "pictures", "-q", "-o", tmp_path / "binary", cwd=folder)
    assert outcome.code == 0, outcome.stderr
    assert "warning: net.onnx was not trained in its binary form: points is off by" in outcome.stderr
    assert "bhpe-compile distill net.onnx --images pictures/" in outcome.stderr


def test_how_often_an_argmax_agrees_is_told(folder: Path, tmp_path: Path) -> None:
    """Of outputs that an argmax is taken of, with what is in float in front."""
    artefact = tmp_path / "artefact"
    shutil.copytree(folder / "int8", artefact)
    manifest = json.loads((artefact / "manifest.json").read_text())
    assert manifest["float_parts"]["levels"] == ["groups"]
    assert manifest["float_parts"]["argmax"] == {}  # keypoints are no scores
    manifest["network"]["outputs"][0]["kind"] = "simcc"
    (artefact / "manifest.json").write_text(json.dumps(manifest))
    found = json.loads(inside("verify", artefact, "--format", "json").stdout)["argmax"]
    assert found == {"points": {"same": 10, "rows": 10, "float_parts": found["points"]["float_parts"]}}
    assert "groups" in found["points"]["float_parts"]
    told = inside("verify", artefact).stdout
    assert "as in model.onnx: 10 of 10 rows of points; in front in float: " in told


def test_a_float_artefact_is_bisected(folder: Path) -> None:
    """Constants are compared to the bit, outputs within what their description allows."""
    outcome = inside("verify", "float", "--bisect", "--model", "net.onnx", "--format", "json", cwd=folder)
    found = json.loads(outcome.stdout)
    assert (found["ok"], found["reference"], found["remarks"]) == (True, "the ONNX file", [])
    assert [stage["name"] for stage in found["stages"]] == ["model.onnx", "program"]
    assert found["against_file"]["points"] < 1e-5


def test_an_artefact_with_float_parts_is_bisected(folder: Path) -> None:
    """Behind a float part the search goes on from the levels of model.onnx."""
    outcome = inside("verify", "int8", "--bisect", "--model", "net.onnx", cwd=folder)
    assert outcome.code == 0, outcome.stderr
    assert "in float, in front of signs or levels: groups" in outcome.stdout
    assert outcome.stdout.endswith("no difference beyond that\n")


def test_ranges_that_are_measured_again_give_the_same_model(folder: Path) -> None:
    words = ("verify", "int8", "--model", "net.onnx", "--calibrate", "pictures", "--format", "json")
    outcome = inside(*words, cwd=folder)
    assert (outcome.code, json.loads(outcome.stdout)["remade"]) == (0, True), outcome.stderr


def test_another_file_than_the_artefacts(folder: Path, tmp_path: Path) -> None:
    """The same network with other weights: the layer that first reads other levels is named."""
    other = save(landmarks(seed=1), tmp_path / "other.onnx")
    outcome = inside("verify", "int8", "--model", other, cwd=folder)
    assert outcome.code == 4, outcome.stderr
    assert "the ONNX file, output points: off by" in outcome.stderr
    assert "is NOT what --model gives" in outcome.stdout
    outcome = inside("verify", "float", "--model", other, cwd=folder)
    assert outcome.code == 4
    assert "the ONNX file, output points: off by" in outcome.stderr


def test_the_other_kind_of_file(folder: Path, compiled: Compiled, example: Path) -> None:
    outcome = inside("verify", "int8", "-q", "--model", example / "model.pt", cwd=folder)
    assert_one_error(outcome, 2, "is a checkpoint, and int8 was made of an ONNX file")
    outcome = inside("verify", compiled.folder, "-q", "--model", "net.onnx", cwd=folder)
    assert_one_error(outcome, 2, "is an ONNX file, and", "was made of a checkpoint")


def test_what_is_slow_is_told(folder: Path) -> None:
    outcome = inside("explain", "float", "groups", cwd=folder)
    assert "computed slowly, by TVM's default schedule: it has groups" in outcome.stdout
    told = inside("report", "float", cwd=folder).stdout
    assert "COMPUTED SLOWLY" in told
    assert "computed slowly, by TVM's default schedule: it has groups" in told


def test_8_bits_by_default_and_what_they_need(folder: Path, tmp_path: Path) -> None:
    manifest = json.loads((folder / "int8" / "manifest.json").read_text())
    assert manifest["options"]["scheme"] == "int8"
    assert manifest["calibration"] == {"source": "user", "pictures": 2}
    outcome = inside(folder / "net.onnx", "--target", "x86", cwd=tmp_path)
    assert_one_error(outcome, 2, "--calibrate FILE.npz", "--calibrate PICTURES", "--scheme float")
    outcome = inside(folder / "net.onnx", "--target", "x86", "--calibrate", folder / "pictures", cwd=tmp_path)
    assert_one_error(outcome, 2, "nothing says how a picture becomes an input")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--scheme", "bnn"), 2, "compiles with --scheme int8, float or bidrn"),
        (("--scheme", "bidrn"), 2, "--calibrate FILE.npz"),
        (("--keep-float", "x"), 2, "--keep-float is for checkpoints"),
        (("--max-drop", "5%", "--scheme", "float"), 2, "--max-drop is for checkpoints"),
        (("--shape", "image=1,3", "--scheme", "float"), 2, "only what is open"),
        (("--shape", "image", "--scheme", "float"), 2, "say NAME=1,3,256,192"),
        (("--network", "hand4whole", "--scheme", "float"), 2, "of an ONNX file a description tells"),
        (("--network", "bad.toml", "--scheme", "float"), 3, "has no output 'pionts'; did you mean points?"),
        (("--network", "wrong.toml", "--scheme", "float"), 3, "cannot be seen as [1, 7]"),
    ],
)
def test_refusals(words: tuple[str, ...], code: int, says: str, folder: Path) -> None:
    (folder / "bad.toml").write_text("[outputs.pionts]\nkind = 'keypoints'\n")
    (folder / "wrong.toml").write_text("[outputs.points]\nshape = [1, 7]\n")
    outcome = inside("net.onnx", "--target", "x86", "-o", "never", *words, cwd=folder)
    assert_one_error(outcome, code, says)
    assert not (folder / "never").exists()


def test_a_description_in_the_metadata(folder: Path, tmp_path: Path) -> None:
    model = landmarks()
    entry = model.metadata_props.add()
    entry.key, entry.value = "bhpe.network", DESCRIPTION
    save(model, tmp_path / "told.onnx")
    words = ("told.onnx", "--target", "native", "--scheme", "float", "-q")
    outcome = inside(*words, "--picture", folder / "pictures" / "0.png", cwd=tmp_path)
    outcome = inside(*words, cwd=tmp_path) if outcome.code == 2 else outcome
    assert outcome.code == 0, outcome.stderr
    manifest = json.loads((tmp_path / "dist" / "told-native" / "manifest.json").read_text())
    assert manifest["network"]["network"] == "two points"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((), 2, "--input image=FILE.npy (float32 [1, 3, 32, 24])"),
        (("--input", "imag=image.npy"), 2, "did you mean image?"),
        (("--input", "image"), 2, "say NAME=FILE.npy"),
        (("--input", "image=gone.npy"), 2, "gone.npy: no such file"),
        (("--input", "image=flat.npy"), 3, "must be float32 [1, 3, 32, 24], not float32 [4]"),
        (("--input", "image=flat.npy", "--input", "image=flat.npy"), 3, "must be float32"),
        (("--input", "image=flat.npy", "--box", "0,0,9,9"), 2, "--input is for one run on arrays"),
    ],
)
def test_inputs_that_do_not_fit(words: tuple[str, ...], code: int, says: str, folder: Path) -> None:
    np.save(folder / "flat.npy", np.zeros(4, np.float32))
    assert_one_error(inside("run", "float", *words, cwd=folder), code, says)


def test_names_of_the_file_are_those_of_arrays(tmp_path: Path) -> None:
    net = Net()
    net.add("Softplus", "gpu_0/data_0", out="gpu_0/out_0")
    save(net.model({"gpu_0/data_0": (2, 3)}, ["gpu_0/out_0"]), tmp_path / "m.onnx")
    outcome = inside("m.onnx", "--target", "native", "--scheme", "float", "-o", "out", "-q", cwd=tmp_path)
    assert outcome.code == 0, outcome.stderr
    np.save(tmp_path / "x.npy", np.ones((2, 3), np.float32))
    for name in ("gpu_0/data_0", "gpu_0_data_0"):
        outcome = inside("run", "out", "--input", f"{name}=x.npy", "-o", "y.npz", cwd=tmp_path)
        assert outcome.code == 0, outcome.stderr
    assert list(np.load(tmp_path / "y.npz")) == ["gpu_0/out_0"]


def test_from_python(tmp_path: Path) -> None:
    net = Net()
    net.add("Softplus", "x", out="y")
    path = save(net.model({"x": ("N", "M")}, ["y"]), tmp_path / "m.onnx")
    made = compile_model(path, target="native", output=tmp_path / "out", scheme="float", shapes={"x": (2, 3)})
    (got,) = made.run({"x": np.zeros((2, 3), np.float32)}).values()
    np.testing.assert_allclose(got, np.full((2, 3), np.log(2), np.float32), rtol=1e-6)


def test_dry_run(folder: Path) -> None:
    outcome = inside(
        "net.onnx",
        "--target",
        "x86",
        "--network",
        "net.toml",
        "--calibrate",
        "pictures",
        "--dry-run",
        cwd=folder,
    )
    assert outcome.code == 0, outcome.stderr
    assert "linear-layers" in outcome.stdout
    assert "fold-batch-norm" in outcome.stdout


def test_an_operator_of_another_domain(tmp_path: Path) -> None:
    model = Net().model({"x": (1, 2)}, [])
    model.graph.node.append(onnx.helper.make_node("Magic", ["x"], ["y"], "trick", domain="com.example"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("y", 1, [1, 2]))
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    save(model, tmp_path / "m.onnx")
    outcome = inside("m.onnx", "--target", "x86", "--scheme", "float", cwd=tmp_path)
    assert outcome.code == 3
    assert "error: m.onnx: node Magic (trick): operators of com.example have no kernel" in outcome.stderr
