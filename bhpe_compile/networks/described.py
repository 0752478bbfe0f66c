"""What a bare graph's inputs and outputs mean, as a description says it: a TOML file, or the same text in the graph's
metadata.

    [inputs.image]
    kind = "picture"
    crop = {divisor = 1.0, mean = [123.675, 116.28, 103.53], deviation = [58.395, 57.12, 57.375]}

    [outputs.points]
    kind = "keypoints"
    names = ["nose", "left_eye"]

    [simcc]                     # where two outputs of kind "simcc" tell the points
    x = "simcc_x"
    y = "simcc_y"
    split = 2.0                 # bins a pixel
    names = ["nose", "left_eye"]

    [skeleton]
    bones = [["nose", "left_eye"]]

The keys are those of `interface.py`. What the description leaves out is a plain tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.networks.choice import SUFFIX, merged_interface
from bhpe_compile.networks.interface import Interface
from bhpe_compile.reading import MalformedError, parse_toml, read_toml

METADATA = "bhpe.network"
"""The key of a graph's metadata that holds a description."""

TABLES = {"inputs", "outputs", "skeleton", "simcc", "name"}

Shapes = Mapping[str, tuple[int, ...]]


def describe_ports(
    source: str, inputs: Shapes, outputs: Shapes, file: str | None, metadata: Mapping[str, str]
) -> Interface:
    """The interface of a graph with these inputs and outputs. file: a TOML file, None: what `metadata` says.

    UsageError for a file that cannot be read or a word that is no file, InputError for one that is damaged or does not
    fit.
    """
    content, where = _content(source, file, metadata)
    unknown = sorted(content.keys() - TABLES)
    if unknown:
        raise InputError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(sorted(TABLES))}")
    name = content.get("name", "")
    if not isinstance(name, str):
        raise InputError(f"{where}: name is a word, not {name!r}")
    base = {
        "network": name,
        "inputs": [{"name": key, "shape": list(shape)} for key, shape in inputs.items()],
        "outputs": [
            {"name": key, "shape": list(shape) if all(extent > 0 for extent in shape) else []}
            for key, shape in outputs.items()
        ],
    }
    return merged_interface(base, content, where, Path(source).name)


def _content(source: str, file: str | None, metadata: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """What is said, and where it stands."""
    if file is None:
        text = metadata.get(METADATA)
        where = f"{source}, {METADATA} in its metadata"
        try:
            return ({} if text is None else parse_toml(text)), where
        except MalformedError as error:
            raise InputError(f"{where}: is not TOML ({error})") from None
    if not file.endswith(SUFFIX):
        raise UsageError(
            f"--network {file}: is for checkpoints; of an ONNX file a description tells, FILE{SUFFIX}"
        )
    try:
        return read_toml(Path(file)), file
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from None
    except MalformedError as error:
        raise InputError(f"{file}: is not TOML ({error})") from None
