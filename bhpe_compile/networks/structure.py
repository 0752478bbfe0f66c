"""The structure of a network that no package describes, as data: what its checkpoint carries beside its weights.

A `Step` computes one value from others. Its `kind` is one of those that `structure_torch.py` can build; numbers and
words are its settings. Weights are not here: a checkpoint's state holds them under the paths of the layers, and
constants under their own names. Sizes of layers are those of their weights.

Values have the axes that the network's file gives them, for one picture. The first axis grows with the number of
pictures: a value [k, ...] is [pictures k, ...] in training, picture after picture.
"""

from __future__ import annotations

import re

import msgspec

from bhpe_compile.errors import InputError

Setting = int | float | str | tuple[int, ...]

NETWORK = "onnx"
"""What networks that came as ONNX files are called; the preset is the file's name."""

CONSTANTS = "constants"
"""What paths of constants begin with."""

PATH = re.compile(r"[A-Za-z]\w*(\.[A-Za-z0-9]\w*)*", re.ASCII)
"""A path of a layer or a constant."""


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One operation. `inputs` are names of values or of constants; `path` is where its module stands, if it is one."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    path: str = ""
    settings: dict[str, Setting] = {}

    def __post_init__(self) -> None:
        if self.path and not PATH.fullmatch(self.path):
            raise ValueError(f"{self.path!r} is no path of a layer")


class Structure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`inputs` are the network's, in order; `outputs` tells which value each output is; `steps` stand in order."""

    inputs: tuple[str, ...]
    outputs: dict[str, str]
    steps: tuple[Step, ...]

    def to_json(self) -> str:
        """As text; `from_json` is its inverse."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: object, source: str) -> Structure:
        """Inverse of `to_json`. InputError says what is wrong; `source` is the file."""
        if not isinstance(text, str):
            raise InputError(f"{source}: damaged: its structure is no text")
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError as error:
            raise InputError(f"{source}: damaged: its structure: {error}") from None
