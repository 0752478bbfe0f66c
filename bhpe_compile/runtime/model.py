"""A compiled model in this process: NumPy in, NumPy out, over the C interface.

    with Model("dist/model-x86") as model:
        outputs = model.run(rgb, box=(x, y, width, height))    # uint8 [H, W, 3]; arrays by output name
        model.joints()["left_wrist"]                           # x, y in pixels of that frame
        outputs = model.run("person.png")                      # a file

Neither torch nor TVM is imported. A model is used by one thread at a time (a lock sees to it); different models
run in parallel, the interpreter's lock being released during a run.
"""

from __future__ import annotations

import ctypes as c
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.artifact.load import check_artifact
from bhpe_compile.artifact.wheel_module import CHECKS, FrameModel
from bhpe_compile.errors import BhpeError, InputError, UsageError
from bhpe_compile.networks.interface import Interface
from bhpe_compile.runtime.library import CStep, CTensor, Library
from bhpe_compile.runtime.picture import Picture, load_picture, make_feeds
from bhpe_compile.runtime.session import Array, StepInfo, TensorInfo
from bhpe_compile.targets.host import missing_features

WEIGHTS = "weights.bin"
ALIGNMENT = 64
MOST_THREADS = 64
NOT_FINITE = -8
"""BHPE_NOT_FINITE"""

_KINDS = {0: "int", 1: "uint", 2: "float", 6: "bool"}


def _info(tensor: CTensor) -> TensorInfo:
    kind = _KINDS[tensor.type]
    return TensorInfo(
        name=tensor.name.decode(),
        dtype=kind if kind == "bool" else f"{kind}{tensor.bits}",
        shape=tuple(tensor.shape[i] for i in range(tensor.ndim)),
        constant=bool(tensor.constant),
        offset=tensor.offset,
        id=tensor.id,
    )


def _view(tensor: CTensor) -> Array:
    """The tensor's own memory as an array; it dies with the model."""
    info = _info(tensor)
    memory = (c.c_uint8 * tensor.nbytes).from_address(tensor.data)
    view = np.frombuffer(memory, info.dtype).reshape(info.shape)
    view.flags.writeable = not info.constant
    return view


def aligned_copy(array: Array) -> Array:
    """A copy whose data start at a multiple of 64 bytes, as kernels assume."""
    block = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    copy = block[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _check_threads(threads: int) -> None:
    if not 1 <= threads <= MOST_THREADS:
        raise UsageError(f"a model runs on 1 to {MOST_THREADS} threads, not {threads}")


class Model(FrameModel):
    """The artefact folder `path`, checked and loaded, to be run by `threads` threads (1 to 64).

    Raises UsageError (no such folder, or no such number of threads) and InputError (damaged, or compiled for
    another CPU).
    """

    def __init__(self, path: Path | str, threads: int = 1) -> None:
        path = Path(path)
        self._handle = c.c_void_p()
        self._lock = threading.Lock()
        _check_threads(threads)
        manifest = check_artifact(path)
        self.interface = Interface.from_dict(manifest["network"])
        """What inputs and outputs mean, and how a picture becomes an input."""
        target = manifest["target"]
        lacking = missing_features(target["family"], target["requires"])
        if lacking:
            raise InputError(
                f"{path}: is compiled for {target.get('name')}, and this machine has no {', '.join(lacking)}; "
                "compile for another target"
            )
        self._library = Library(path, manifest)
        if self._library.create_from_path(os.fsencode(path / WEIGHTS), c.byref(self._handle)):
            message = self._library.last_error()
            self._library.close()
            raise InputError(f"{path}: {message}; compile the model again")
        if self._library.set_checks(self._handle, CHECKS):
            message = self._library.last_error()
            self.close()
            raise InputError(f"{path}: {message}; compile the model again")
        if threads != 1 and self._library.set_threads(self._handle, threads):
            message = self._library.last_error()
            self.close()
            raise BhpeError(f"the compiled model reports: {message}")
        self.inputs = self._ports("input")
        self.outputs = self._ports("output")
        self.steps = tuple(self._step(i) for i in range(self._library.step_count(self._handle)))

    @property
    def threads(self) -> int:
        """How many threads a run uses; may be set between runs. Outputs are the same bits for every number."""
        return int(self._library.get_threads(self._handle))

    @threads.setter
    def threads(self, threads: int) -> None:
        _check_threads(threads)
        with self._lock:
            self._check(self._library.set_threads(self._handle, threads))

    def _ports(self, which: str) -> tuple[TensorInfo, ...]:
        count = getattr(self._library, f"{which}_count")(self._handle)
        return tuple(_info(self._port(which, i)) for i in range(count))

    def _port(self, which: str, index: int) -> CTensor:
        tensor = CTensor()
        self._check(getattr(self._library, f"get_{which}")(self._handle, index, c.byref(tensor)))
        return tensor

    def _argument(self, step: int, argument: int) -> CTensor:
        tensor = CTensor()
        self._check(self._library.step_argument(self._handle, step, argument, c.byref(tensor)))
        return tensor

    def _step(self, index: int) -> StepInfo:
        step = CStep()
        self._check(self._library.get_step(self._handle, index, c.byref(step)))
        arguments = tuple(_info(self._argument(index, k)) for k in range(step.arguments))
        return StepInfo(index, step.symbol.decode(), step.kind.decode(), step.layer.decode(), arguments)

    def _open(self) -> None:
        if not self._handle:
            raise UsageError("the model is closed")

    def _check(self, status: int) -> None:
        if status:
            kind = InputError if status == NOT_FINITE else BhpeError
            raise kind(f"the compiled model reports: {self._library.last_error()}")

    def input(self, index: int = 0) -> Array:
        """The memory of an input; what is written there is what the next `execute` reads."""
        return _view(self._port("input", index))

    def output(self, index: int = 0) -> Array:
        """The memory of an output: overwritten by the next run, gone after `close`."""
        return _view(self._port("output", index))

    def argument(self, step: int, argument: int) -> Array:
        """The memory of an argument of a step, valid between that step and the next."""
        return _view(self._argument(step, argument))

    def execute(self) -> None:
        """Compute all outputs from all inputs, in place; InputError where an output has NaN or infinity."""
        self._check(self._library.run(self._handle))

    def execute_step(self, step: int, overrides: Mapping[int, Array] | None = None) -> None:
        """Run one step, some arguments replaced by arrays of the same size (see `aligned_copy`)."""
        if overrides is None:
            self._check(self._library.run_step(self._handle, step, None))
            return
        count = len(self.steps[step].arguments)
        pointers = (c.c_void_p * count)(
            *(overrides[k].ctypes.data if k in overrides else None for k in range(count))
        )
        self._check(self._library.run_step(self._handle, step, pointers))

    def run(
        self,
        inputs: Picture | Path | str | Array | Mapping[str, Array],
        box: Sequence[float] | None = None,
        focal: float | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Outputs by name (copies).

        inputs: a frame uint8 [H, W, 3] in RGB, a picture or its file, the array of the first input, or arrays by input
        name. box: of a frame or a file, where the person is (x, y, width, height in pixels), by default everywhere.
        focal: of a frame or a file, its focal length in pixels, by default the diagonal.
        UsageError for a box outside; InputError when an array has another shape or dtype than the model's input, for a
        picture where the network takes none, for NaN and infinity in inputs or outputs, or for a damaged file.
        """
        if isinstance(inputs, str | Path) or (
            isinstance(inputs, np.ndarray) and inputs.dtype == np.uint8 and inputs.ndim == 3
        ):
            kinds = {port.kind for port in self.interface.inputs}
            if "picture" not in kinds or "tensor" in kinds:
                raise InputError(
                    "this network does not take a picture alone; give its inputs as arrays by name"
                )
            picture = load_picture(inputs, box, focal)
            return self.run_frame(picture.rgb, box, picture.focal)
        if box is not None or focal is not None:
            word = "a focal length" if box is None else "a box"
            raise UsageError(f"{word} is for a frame uint8 [H, W, 3] or a file: leave it out")
        given: Mapping[str, Array]
        if isinstance(inputs, Picture):
            return self._run_picture(inputs)
        given = inputs if isinstance(inputs, Mapping) else {self.inputs[0].name: inputs}
        return self._run_arrays(given)

    def _run_picture(self, picture: Picture) -> dict[str, NDArray[Any]]:
        outputs = self._run_arrays(make_feeds(self.interface, picture))
        port = self.interface.picture
        assert port is not None  # make_feeds refuses a picture otherwise
        view = picture.seen_by(port)
        x, y = view.affine[:, 2].tolist()
        self.frame = (x, y, view.scale)
        return outputs

    def _run_arrays(self, given: Mapping[str, Array]) -> dict[str, NDArray[Any]]:
        arrays = [self._feed(info, given) for info in self.inputs]
        with self._lock:
            self._open()
            for index, array in enumerate(arrays):
                self.input(index)[...] = array
            self.execute()
            return {info.name: self.output(i).copy() for i, info in enumerate(self.outputs)}

    @staticmethod
    def _feed(info: TensorInfo, given: Mapping[str, Array]) -> Array:
        if info.name not in given:
            raise InputError(f"the model's input {info.name} is missing")
        array = info.conform(given[info.name], f"input {info.name}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            # it would give a pose all the same: the sign of NaN is a bit like any other
            raise InputError(f"input {info.name}: has NaN or infinity; give finite numbers")
        return array

    def close(self) -> None:
        """Release the model's memory and unload its library."""
        with self._lock:
            if self._handle:
                self._library.destroy(self._handle)
                self._handle = c.c_void_p()
                self._library.close()
