"""Reading artefacts: any changed byte is found and its file named, before anything is loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bhpe_compile.artifact import check_artifact, load_manifest, load_reference
from bhpe_compile.artifact.load import load_onnx, read_file
from bhpe_compile.artifact.manifest import ABI_VERSION
from bhpe_compile.artifact.save import check_output
from bhpe_compile.cli.main import main
from bhpe_compile.errors import InputError, UsageError
from tests.command import FILES, inside


def test_sound_artifact(artifact: Path, arm_artifact: Path) -> None:
    assert check_artifact(artifact)["target"]["name"] in ("x86", "arm")
    assert sorted(check_artifact(arm_artifact)["files"]) == sorted({*FILES} - {"manifest.json"})


@pytest.mark.parametrize("name", [name for name in FILES if name != "manifest.json"])
@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_one_byte_changed(name: str, place: float, copy: Path) -> None:
    content = bytearray((copy / name).read_bytes())
    content[int(place * len(content)) if place >= 0 else -1] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: was changed"):
        check_artifact(copy)
    with pytest.raises(InputError, match=f"{name}: was changed"):
        read_file(copy, load_manifest(copy), name)


@pytest.mark.parametrize("size", [0, -1, 1])
def test_another_size(size: int, copy: Path) -> None:
    content = (copy / "weights.bin").read_bytes()
    (copy / "weights.bin").write_bytes(content + b"\0" if size > 0 else content[:size])
    with pytest.raises(InputError, match=r"weights\.bin: has \d+ bytes"):
        check_artifact(copy)


@pytest.mark.parametrize("name", ["model.so", "weights.bin", "report.json"])
def test_missing_file(name: str, copy: Path) -> None:
    (copy / name).unlink()
    with pytest.raises(InputError, match=f"{name}: No such file"):
        check_artifact(copy)
    (copy / name).mkdir()
    with pytest.raises(InputError, match=f"{name}: Is a directory"):
        check_artifact(copy)


def test_more_files_do_no_harm(copy: Path) -> None:
    (copy / "pose.json").write_text("{}")
    check_artifact(copy)


def test_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "gone", tmp_path / "file"):
        with pytest.raises(UsageError, match="no such artefact folder"):
            check_artifact(path)
    with pytest.raises(InputError, match=r"has no manifest\.json"):
        check_artifact(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"files": {}}', b"[" * 100_000, b'{"format": NaN}'],
)
def test_manifest_that_is_none(content: bytes, copy: Path) -> None:
    (copy / "manifest.json").write_bytes(content)
    with pytest.raises(InputError, match="manifest"):
        check_artifact(copy)


DAMAGES: dict[str, Any] = {
    "format": "other",
    "format_version": 1,
    "files": [],
    "target": "x86",
    "inputs": [{"name": "x"}],
    "outputs": None,
    "model_id": 5,
    "abi_version": 3,
}


@pytest.mark.parametrize("key", DAMAGES)
@pytest.mark.parametrize("gone", [True, False])
def test_manifest_with_damage(key: str, gone: bool, copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    if gone:
        del manifest[key]
    else:
        manifest[key] = DAMAGES[key]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"manifest\.json: "):
        check_artifact(copy)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..", "", "manifest.json", "a\\b", "a\0"])
def test_listed_file_elsewhere(name: str, copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": "0" * 64, "size": 1}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="files are not listed"):
        check_artifact(copy)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(["format", "files", "target", "inputs", "outputs", "model_id"]), value=json_values)
def test_any_json_is_refused_or_read(key: str, value: object, artifact: Path, tmp_path: Path) -> None:
    """Whatever stands under a key, the answer is a manifest or an InputError, nothing else."""
    manifest = json.loads((artifact / "manifest.json").read_text()) | {key: value}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    try:
        loaded = load_manifest(tmp_path)
    except InputError as error:
        said = str(error)
        answered = "manifest.json: " in said
    else:
        answered = loaded[key] == value
    assert answered


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive"])
def test_damaged_reference(content: bytes, copy: Path) -> None:
    (copy / "reference.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"reference\.npz: damaged"):
        load_reference(copy)


def test_reference_that_is_not_there(copy: Path) -> None:
    (copy / "reference.npz").unlink()
    with pytest.raises(InputError, match="picture of your own"):
        load_reference(copy)


def test_reference_without_an_output(copy: Path) -> None:
    np.savez(copy / "reference.npz", x=np.zeros(3))
    with pytest.raises(InputError, match="damaged"):
        load_reference(copy)


@pytest.mark.parametrize(
    ("key", "older", "says"),
    [
        (
            "format_version",
            1,
            "format version 1 is not 2; compile the model again with this version of bhpe-compile",
        ),
        (
            "abi_version",
            ABI_VERSION - 1,
            f"C interface {ABI_VERSION - 1} is not {ABI_VERSION}; "
            "compile the model again with this version of bhpe-compile",
        ),
    ],
)
@pytest.mark.parametrize("command", ["verify", "run", "report", "bench", "explain"])
def test_an_older_artefact_is_refused_in_one_line(
    key: str, older: int, says: str, command: str, copy: Path, tmp_path: Path
) -> None:
    """Its manifest has no description of its network, its library another interface."""
    manifest = json.loads((copy / "manifest.json").read_text())
    assert manifest[key] == older + 1
    del manifest["network"]
    (copy / "manifest.json").write_text(json.dumps({**manifest, key: older}))
    picture = (tmp_path / "p.png",) if command == "run" else ()
    if picture:
        Image.new("RGB", (9, 9)).save(picture[0])
    answer = inside(command, copy, *picture)
    assert (answer.code, answer.stdout) == (3, "")
    assert answer.stderr.splitlines()[-1] == f"error: {copy / 'manifest.json'}: {says}"
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("name", ["model.onnx", "report.json"])
def test_damage_is_told_where_the_hash_agrees(name: str, copy: Path) -> None:
    """Who makes an artefact anew can make its hashes, too: what reads the files still meets no surprise."""
    damaged = b"PK\3\4" * 100
    (copy / name).write_bytes(damaged)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(damaged).hexdigest(), "size": len(damaged)}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert main(["verify", str(copy)]) == 3
    with pytest.raises(InputError, match=r"model\.onnx: (damaged|cannot be read)"):
        load_onnx(copy / "model.onnx" if name == "model.onnx" else copy / "gone" / "model.onnx")


def test_an_older_artefact_may_be_replaced(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    for key in ("abi_version", "format_version"):
        (copy / "manifest.json").write_text(json.dumps({**manifest, key: 1}))
        check_output(copy)
    (copy / "manifest.json").write_text(json.dumps({**manifest, "format": "another"}))
    with pytest.raises(UsageError, match="is not a compiled model"):
        check_output(copy)
