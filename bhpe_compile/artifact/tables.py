"""Program -> tables.c: constant arrays in the layout of csrc/model.h, nothing computed at run time.

Shapes are pooled (equal ones stored once); arguments of all steps lie in one array, a step is a range of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import numpy as np

from bhpe_compile.artifact.layout import model_id
from bhpe_compile.artifact.program import Port, Program, TensorSlot
from bhpe_compile.networks.interface import BoxVector, Crop

KERNEL_PREFIX = "__tvm_ffi_"
"""What TVM puts in front of a PrimFunc's global symbol."""

STRUCTS = ("tensor_entry", "step_entry", "argument_entry", "port_entry", "picture_entry", "box_entry")

TYPE_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
"""NumPy's kind of a dtype -> DLPack's type code."""


def c_string(text: str) -> str:
    """`text` as a C string literal in UTF-8; everything unusual becomes a three-digit octal escape."""
    plain = frozenset(b"_.-/:+@ 0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ[](),")
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode()) + '"'


class _Shapes:
    """A pool of extents; `place` returns where a shape starts."""

    def __init__(self) -> None:
        self.values: list[int] = []
        self._places: dict[tuple[int, ...], int] = {}

    def place(self, shape: tuple[int, ...]) -> int:
        if shape not in self._places:
            self._places[shape] = len(self.values)
            self.values.extend(shape)
        return self._places[shape]


def _float(value: float) -> str:
    """The nearest float32 as a C constant."""
    return f"{float(np.float32(value)).hex()}f"


def _picture(index: int, crop: Crop) -> str:
    values = (f"{{{', '.join(map(_float, channels))}}}" for channels in (crop.mean, crop.deviation))
    return f"{index}, {int(crop.order == 'bgr')}, {crop.enlarge.hex()}, {_float(crop.divisor)}, {', '.join(values)}"


def _box(index: int, vector: BoxVector) -> str:
    numbers = (vector.centre, vector.size_offset, vector.size_scale)
    return f"{index}, {', '.join(float(number).hex() for number in numbers)}"


def _keypoints(program: Program) -> tuple[list[str], str]:
    """The names of the joints as C strings, and the entry that says where they are; nothing where there are none."""
    interface = program.interface
    described, port = interface.keypoints, interface.picture
    places = {one.name: index for index, one in enumerate(program.outputs)}
    if described is None or port is None or described.name not in places:
        return [], "{0}"
    place = places[described.name]
    slot = program.tensors[program.outputs[place].tensor]
    if slot.dtype != "float32" or len(slot.shape) < 2 or slot.shape[-1] < 2:
        return [], "{0}"
    rows, columns = port.size
    across, down = described.grid or (columns, rows)
    count, stride = prod(slot.shape[:-1]), slot.shape[-1]
    names = [described.names[i] if i < len(described.names) else str(i) for i in range(count)]
    cell = f"{(columns / across).hex()}, {(rows / down).hex()}"
    return [c_string(name) for name in names], f"{{{place}, {count}, {stride}, {cell}, joint_names}}"


def _array(ctype: str, name: str, items: Iterable[str]) -> str:
    rows = list(items) or ["0"]  # C has no empty arrays
    braced = ctype in STRUCTS
    lines = (f"  {{{row}}}," if braced else f"  {row}," for row in rows)
    return "\n".join([f"static const {ctype} {name}[] = {{", *lines, "};"])


def _tensor(slot: TensorSlot, shapes: _Shapes) -> str:
    dtype = np.dtype(slot.dtype)
    code, constant = TYPE_CODES[dtype.kind], int(slot.storage == "weights")
    place = shapes.place(slot.shape)
    return (
        f"{slot.offset}, {slot.nbytes}, {place}, {len(slot.shape)}, {code}, {8 * dtype.itemsize}, {constant}"
    )


def _ports(name: str, ports: Sequence[Port]) -> str:
    return _array("port_entry", name, (f"{c_string(port.name)}, {port.tensor}" for port in ports))


def render_tables(program: Program) -> str:
    """The C source of `program`; the same program gives the same text."""
    shapes = _Shapes()
    tensors = [_tensor(slot, shapes) for slot in program.tensors]
    arguments: list[str] = []
    steps: list[str] = []
    for step in program.steps:
        names = ", ".join(c_string(word) for word in (step.symbol, step.kind, step.layer))
        numbers = f"{len(arguments)}, {len(step.args)}, {int(step.parallel)}"
        steps.append(f"{KERNEL_PREFIX}{step.symbol}, {names}, {numbers}")
        arguments += [
            f"{tensor}, {c_string(role)}" for tensor, role in zip(step.args, step.roles, strict=True)
        ]
    symbols = sorted({step.symbol for step in program.steps})
    identity = model_id(program)
    places = {port.name: index for index, port in enumerate(program.inputs)}
    described = [(places[one.name], one) for one in program.interface.inputs if one.name in places]
    pictures = [_picture(index, one.crop) for index, one in described if one.crop is not None]
    boxes = [_box(index, one.vector) for index, one in described if one.vector is not None]
    joint_names, keypoints = _keypoints(program)
    fields = {
        "arena_bytes": program.arena_bytes,
        "workspace_bytes": program.workspace_bytes,
        "weights_bytes": len(program.weights),
        "id": "{" + ", ".join(map(str, identity)) + "}",
        "id_text": c_string(identity.hex()),
        "tensors": len(tensors),
        "steps": len(steps),
        "arguments": len(arguments),
        "inputs": len(program.inputs),
        "outputs": len(program.outputs),
        "pictures": len(pictures),
        "boxes": len(boxes),
        "most_arguments": max((len(step.args) for step in program.steps), default=0),
        "tensor": "tensors",
        "shapes": "shapes",
        "step": "steps",
        "argument": "arguments",
        "input": "inputs",
        "output": "outputs",
        "picture": "pictures",
        "box": "boxes",
        "keypoints": keypoints,
    }
    return "\n".join(
        [
            '#include "model.h"',
            *(
                f"extern int {KERNEL_PREFIX}{s}(void *, const kernel_argument *, int32_t, kernel_argument *);"
                for s in symbols
            ),
            _array("tensor_entry", "tensors", tensors),
            _array("int64_t", "shapes", map(str, shapes.values)),
            _array("step_entry", "steps", steps),
            _array("argument_entry", "arguments", arguments),
            _ports("inputs", program.inputs),
            _ports("outputs", program.outputs),
            _array("picture_entry", "pictures", pictures),
            _array("box_entry", "boxes", boxes),
            *([_array("char *const", "joint_names", joint_names)] if joint_names else []),
            "const program_tables bhpe_program = {",
            *(f"  .{name} = {value}," for name, value in fields.items()),
            "};",
            "",
        ]
    )
