"""A finding as a folder that runs on its own: the smallest graph that shows it, its inputs, and what is expected.

model.onnx     the nodes between values that are right and the one that is wrong
inputs.npz     those right values
expected.npz   what it should compute
run.py         runs it with NumPy and ONNX Runtime and prints the difference
step.npz       of a wrong step of a program: what it reads, and what it should write
step.py        runs that step of an artefact and prints the difference
README.md      what was found, and the command
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnx.utils import Extractor

from bhpe_compile.archive import npz_bytes
from bhpe_compile.check.verify.oracle import run_values
from bhpe_compile.errors import UsageError
from bhpe_compile.files import write_atomically
from bhpe_compile.text import to_utf8

Array = NDArray[Any]

FILES = frozenset({"model.onnx", "inputs.npz", "expected.npz", "run.py", "step.npz", "step.py", "README.md"})

SCRIPT = '''"""Runs model.onnx on inputs.npz and compares with expected.npz."""

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
(found,) = session.run(None, dict(np.load("inputs.npz")))
arrays = np.load("expected.npz")
expected = arrays["expected"]
gap = np.abs(found.astype(np.float64) - expected.astype(np.float64))
print(f"{int((gap > 0).sum())} of {gap.size} elements differ, at most {gap.max():.6g}")
'''

STEP_SCRIPT = '''"""Runs one step of the artefact folder named as argument on step.npz; needs bhpe_compile."""

import sys
from pathlib import Path

import numpy as np

from bhpe_compile.runtime import Probe, open_session

arrays = dict(np.load("step.npz"))
expected, step, result = arrays.pop("expected"), int(arrays.pop("step")), int(arrays.pop("result"))
given = {int(name.removeprefix("argument")): array for name, array in arrays.items()}
with open_session(Path(sys.argv[1])) as session:
    feeds = {tensor.name: np.zeros(tensor.shape, tensor.dtype) for tensor in session.inputs}
    print(f"step {step}, kernel {session.steps[step].symbol}, {session.executed}")
    found = session.execute(feeds, probes=[Probe(step, given, result, "step")]).probes["step"]
gap = np.abs(found.astype(np.float64) - expected.astype(np.float64))
print(f"largest difference from the kernel's reference: {gap.max():.6g}, in {int((gap > 0).sum())} of {gap.size}")
'''


def check_folder(folder: Path) -> None:
    """Refuse, before the work, a folder that holds anything but an earlier reproduction."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; name another folder for --repro")
    others = (
        sorted(path.name for path in folder.iterdir() if path.name not in FILES) if folder.is_dir() else []
    )
    if others:
        raise UsageError(f"{folder}: also holds {others[0]}; name another folder for --repro")


def write_repro(
    folder: Path,
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    expected: Mapping[str, Array],
    text: str,
    step: Mapping[str, Array] | None = None,
) -> tuple[Path, ...]:
    """Write the files; `step` is the contents of step.npz. UsageError when the folder cannot be written."""
    contents = {
        "model.onnx": model.SerializeToString(deterministic=True),
        "inputs.npz": npz_bytes(feeds),
        "expected.npz": npz_bytes(expected),
        "run.py": SCRIPT.encode(),
        "README.md": to_utf8(text),
    }
    if step is not None:
        contents |= {"step.npz": npz_bytes(step), "step.py": STEP_SCRIPT.encode()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomically(folder / name, content)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be written ({error.strerror}); name another folder for --repro"
        ) from None
    return tuple(folder / name for name in contents)


def extract(
    model: onnx.ModelProto, target: str, values: Mapping[str, Array]
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The part of `model` that computes `target` from `values`, and those of them that it reads."""
    producers = {name: node for node in model.graph.node for name in node.output}
    inputs: dict[str, Array] = {}
    waiting, seen = [target], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in values and name != target:
            inputs[name] = values[name]
        elif name in producers:
            waiting += producers[name].input
    described = onnx.ModelProto()
    described.CopyFrom(model)
    del described.graph.value_info[:], described.metadata_props[:]
    known = {value.name for value in (*described.graph.input, *described.graph.output)}
    described.graph.value_info.extend(
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in (inputs | {target: values[target]}).items()
        if name not in known
    )
    return Extractor(described).extract_model(list(inputs), [target]), inputs


def write_layer(
    folder: Path,
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    stops: Sequence[str],
    target: str,
    text: str,
    *,
    found: Mapping[str, Array] | None = None,
    step: Mapping[str, Array] | None = None,
) -> tuple[Path, ...]:
    """The part of `model` between the values `stops` and `target`, what it reads, and what is expected: what `model`
    computes, or where `found` has the values of another one, what that computes from values that are equal in both.
    step: a wrong step of a program, what it really read and should write."""
    values = run_values(model, feeds, [*stops, target])
    expected = values[target]
    if found is not None:
        expected = found[target]
        values = {
            n: a for n, a in values.items() if n == target or (n in found and np.array_equal(a, found[n]))
        }
    part, inputs = extract(model, target, values)
    return write_repro(folder, part, inputs, {"expected": expected}, text, step)
