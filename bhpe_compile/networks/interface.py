"""What goes into a network and what comes out, as data: the part of its description that travels in the artefact.

Neither torch nor TVM is imported: `manifest.json` holds an `Interface`, and the runtime reads it there.

    picture    a person's box grows to the input's proportions, is enlarged about its centre and sampled bilinearly;
               value = (pixel / divisor - mean) / deviation, channel by channel; outside the picture pixels are 0
    box        numbers that tell where the box was in the picture (see `BoxVector`)
    tensor     anything else: the user gives it
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import msgspec

from bhpe_compile.errors import InputError


class _Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Plain frozen data that is checked as it is read: unknown fields and wrong types are refused."""


Extent = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
Finite = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e9)]

InputKind = Literal["picture", "box", "tensor"]

OutputKind = Literal[
    "axis-angle",  # [..., 3 k] or [..., k, 3] radians
    "rotation",  # [..., 3, 3] matrices
    "keypoints",  # [..., k, 2 or more]: x, y in cells of `grid`, then anything
    "boxes",  # [..., 4]: x0, y0, x1, y1 in pixels of the input
    "heat-map",
    "simcc",  # [..., k, bins]: a distribution over positions along one axis
    "camera",
    "coefficients",  # of shape or expression, of order 1
    "logits",
    "codes",  # [..., k] whole numbers: entries of a code book
    "tensor",
]

ColourOrder = Literal["rgb", "bgr"]

TOLERANCES: dict[str, float] = {
    # matrix entries: float32 sums over up to 16,995 features, then normalised twice; seeded full networks reach
    # 2.5e-3, and 1e-2 is half a degree, far below what such a network knows
    "axis-angle": 1e-2,
    "rotation": 1e-2,
    "keypoints": 1e-2,  # cells of the grid
    "boxes": 0.25,  # pixels of the input
    "camera": 2e-2,
    # of order 1; of larger outputs as a part of the largest value, since a float16 rounding that falls the other way
    # moves a value by 2^-11 of itself
    "heat-map": 5e-3,
    "simcc": 5e-3,
    "coefficients": 5e-3,
    "logits": 5e-3,
    "codes": 5e-3,  # of the largest score: by how much the chosen code's is below it
    "tensor": 5e-3,
}
"""Largest difference allowed between an artefact and its oracle given the same signs, where an output names none."""


class Crop(_Data, frozen=True):
    """How a person's box becomes a picture input: enlargement of the box, and the arithmetic of its values."""

    enlarge: Positive = 1.25
    divisor: Positive = 255.0
    mean: tuple[Finite, Finite, Finite] = (0.0, 0.0, 0.0)
    deviation: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0)
    order: ColourOrder = "rgb"


class BoxVector(_Data, frozen=True):
    """Where the enlarged box is in the full picture: three numbers (CLIFF, arXiv 2208.00571, section 3).

    With the box's centre cx, cy and its height b in pixels, the picture's W x H and the focal length f:

        centre (cx - W / 2) / f,   centre (cy - H / 2) / f,   (b - size_offset f) / (size_scale f)
    """

    centre: Finite = 1.0
    size_offset: Finite = 0.0
    size_scale: Positive = 1.0


class Input(_Data, frozen=True):
    """One input. `shape` has the batch axis; a picture is [1, 3, rows, columns] and has a `crop`, a box a `vector`."""

    name: str
    shape: tuple[Extent, ...]
    kind: InputKind = "tensor"
    crop: Crop | None = None
    vector: BoxVector | None = None

    def __post_init__(self) -> None:
        if self.kind == "picture" and (self.crop is None or len(self.shape) != 4 or self.shape[:2] != (1, 3)):
            raise ValueError(f"input {self.name}: a picture is [1, 3, rows, columns] and has a crop")
        if self.kind == "box" and (self.vector is None or self.shape != (1, 3)):
            raise ValueError(f"input {self.name}: a box is [1, 3] and has a vector")

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a picture."""
        return self.shape[2], self.shape[3]


class Output(_Data, frozen=True):
    """One output.

    shape         with the batch axis
    names         of its keypoints, or of the joints that its rotations turn, in order
    grid          of keypoints: columns and rows that the input's width and height are divided into
    part, margin  of boxes: what is inside, and how many times it was enlarged
    focal         of a camera that is a translation: its focal length in pixels of the input, in whose middle it looks
    tolerance     None: that of its kind
    """

    name: str
    shape: tuple[Extent, ...] = ()
    kind: OutputKind = "tensor"
    unit: str = ""
    names: tuple[str, ...] = ()
    grid: tuple[Positive, Positive] | None = None
    part: str = ""
    margin: Positive = 1.0
    focal: Positive | None = None
    tolerance: Positive | None = None

    @property
    def bound(self) -> float:
        """The largest difference that verification allows, in its unit (of a rotation: of a matrix entry)."""
        return TOLERANCES[self.kind] if self.tolerance is None else self.tolerance


class SimCC(_Data, frozen=True):
    """Keypoints as two classifications (arXiv 2107.03332): the outputs `x` and `y` are [1, k, bins].

    A point is (argmax of its row of x, argmax of its row of y) / split in pixels of the input, its score the smaller of
    the two maxima. Where that is not above `least` there is no point.
    """

    x: str
    y: str
    split: Positive = 2.0
    names: tuple[str, ...] = ()
    least: Finite = 0.0


POINTS = "simcc points"
"""What keypoints that are read off two classifications are called: [1, k, 3] with x, y and score."""


class Skeleton(_Data, frozen=True):
    """How keypoints are drawn: pairs of names, and the names of those that are drawn small (fingers, face)."""

    bones: tuple[tuple[str, str], ...] = ()
    small: tuple[str, ...] = ()


class BodyOutputs(_Data, frozen=True):
    """Names of the outputs that pose a body of the SMPL-X layout: axis-angle and coefficients."""

    root: str
    body: str
    jaw: str
    left_hand: str
    right_hand: str
    shape: str
    expression: str

    @property
    def pose(self) -> tuple[str, ...]:
        """Outputs with rotations, in the order of the body's joints; the eyes, behind the jaw, have none."""
        return self.root, self.body, self.jaw, self.left_hand, self.right_hand

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.pose, self.shape, self.expression)


class Interface(_Data, frozen=True):
    """Inputs and outputs of a network in order, how its keypoints are drawn, and which outputs pose a body.

    `network` is "" for a bare graph.
    """

    network: str = ""
    preset: str = ""
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    skeleton: Skeleton = Skeleton()
    body: BodyOutputs | None = None
    simcc: SimCC | None = None

    def __post_init__(self) -> None:
        for ports, what in ((self.inputs, "inputs"), (self.outputs, "outputs")):
            names = [one.name for one in ports]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"two {what} are called {twice}")
        if self.picture is None and any(one.kind == "box" for one in self.inputs):
            raise ValueError("a box is told of a picture, and no input is one")
        if self.simcc is not None:
            known = {one.name: one for one in self.outputs}
            for name in (self.simcc.x, self.simcc.y):
                if name not in known or known[name].kind != "simcc":
                    raise ValueError(
                        f"simcc reads the output {name!r}, and no output of kind simcc is called so"
                    )

    @property
    def picture(self) -> Input | None:
        """The input that a picture goes into, or None where there is none."""
        return next((one for one in self.inputs if one.kind == "picture"), None)

    @property
    def keypoints(self) -> Output | None:
        """The output that the skeleton joins, or what stands for it where two classifications tell it, or None."""
        found = next((one for one in self.outputs if one.kind == "keypoints"), None)
        if found is None and self.simcc is not None:
            return Output(POINTS, kind="keypoints", names=self.simcc.names)
        return found

    def output(self, name: str) -> Output:
        """The output `name`; a plain tensor where the description does not have it."""
        if name == POINTS and self.keypoints is not None:
            return self.keypoints
        return next((one for one in self.outputs if one.name == name), Output(name))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` is its inverse."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Inverse of `to_dict`, of data as `reading.py` reads it (bounded in depth and range, finite).

        InputError says what is unknown, missing or of a wrong kind, and where.
        """
        try:
            return msgspec.convert(data, cls)
        except msgspec.ValidationError as error:
            raise InputError(f"the description of the network is damaged: {error}") from None


UNDESCRIBED = Interface()
"""Of a graph that nobody described: its inputs and outputs are plain tensors."""
