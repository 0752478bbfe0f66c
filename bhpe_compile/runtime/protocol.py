"""Requests and responses of the driver, as bytes. The format is described in artifact/csrc/session.h.

A record: u32 kind, i32 step, i32 argument, u32 count, u64 payload size; then the payload, padded to 8 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bhpe_compile.errors import BhpeError, InputError
from bhpe_compile.runtime.session import Array, Execution, Place, Probe, StepInfo, TensorInfo

REQUEST_MAGIC, RESPONSE_MAGIC = b"BHPEREQ1", b"BHPERSP1"
END, INPUT, TAP, PROBE, OVERRIDE, FORCE, DESCRIBE, OUTPUT, ERROR = range(9)

HEAD = struct.Struct("<IiiIQ")


@dataclass(frozen=True)
class Description:
    """What a model is made of, in the words of its driver."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    steps: tuple[StepInfo, ...]


def _record(kind: int, step: int = 0, argument: int = 0, count: int = 0, payload: bytes = b"") -> bytes:
    head = HEAD.pack(kind, step, argument, count, len(payload))
    return head + payload + bytes(-len(payload) % 8)


def describe_request() -> bytes:
    """Ask for the description only."""
    return REQUEST_MAGIC + _record(DESCRIBE) + _record(END)


def execute_request(
    inputs: Sequence[Array], taps: Sequence[Place], probes: Sequence[Probe], forced: Mapping[Place, Array]
) -> bytes:
    """One execution; arrays are checked already."""
    parts = [REQUEST_MAGIC]
    parts += [_record(INPUT, index, payload=array.tobytes()) for index, array in enumerate(inputs)]
    parts += [_record(TAP, step, argument) for step, argument in taps]
    for probe in probes:
        parts.append(_record(PROBE, probe.step, probe.result, len(probe.arrays)))
        parts += [_record(OVERRIDE, 0, k, payload=array.tobytes()) for k, array in probe.arrays.items()]
    parts += [_record(FORCE, *place, payload=array.tobytes()) for place, array in forced.items()]
    return b"".join([*parts, _record(END)])


def is_whole(response: bytes) -> bool:
    """Whether the driver came to the end of its response, or to an error it tells of."""
    place = len(RESPONSE_MAGIC)
    while place + HEAD.size <= len(response):
        kind, _, _, _, size = HEAD.unpack_from(response, place)
        if kind in (END, ERROR):
            return True
        place += HEAD.size + size + -size % 8
    return False


def _records(response: bytes) -> Iterator[tuple[int, int, int, int, bytes]]:
    """(kind, step, argument, count, payload) of every record before END; errors of the driver are raised."""
    place = len(RESPONSE_MAGIC)
    if response[:place] != RESPONSE_MAGIC:
        raise InputError("the driver wrote no response; the artefact is damaged, compile the model again")
    while place + HEAD.size <= len(response):
        kind, step, argument, count, size = HEAD.unpack_from(response, place)
        place += HEAD.size
        if kind == END:
            return
        payload = response[place : place + size]
        place += size + -size % 8
        if kind == ERROR:
            raise BhpeError(f"the compiled model reports: {payload.decode('utf-8', errors='replace')}")
        yield kind, step, argument, count, payload
    raise BhpeError("the driver stopped in the middle of its response (is the disk full?)")


def _tensor(fields: Sequence[str]) -> TensorInfo:
    name, dtype, shape, storage, offset, identity = fields
    extents = tuple(int(extent) for extent in shape.split(",") if extent)
    return TensorInfo(name, dtype, extents, storage == "weights", int(offset), int(identity))


def parse_description(response: bytes) -> Description:
    """The answer to `describe_request`."""
    text = "".join(payload.decode() for kind, *_, payload in _records(response) if kind == DESCRIBE)
    ports: dict[str, list[TensorInfo]] = {"input": [], "output": []}
    steps: list[tuple[list[str], list[TensorInfo]]] = []
    for line in text.splitlines():
        word, *fields = line.split("\t")
        if word == "step":
            steps.append((fields, []))
        elif word == "argument":
            steps[-1][1].append(_tensor(fields))
        else:
            ports[word].append(_tensor(fields))
    return Description(
        inputs=tuple(ports["input"]),
        outputs=tuple(ports["output"]),
        steps=tuple(
            StepInfo(i, symbol, kind, layer, tuple(arguments))
            for i, ((symbol, kind, layer), arguments) in enumerate(steps)
        ),
    )


def parse_execution(response: bytes, model: Description, probes: Sequence[Probe]) -> Execution:
    """The answer to `execute_request`."""
    result = Execution({}, {}, {})
    for kind, step, argument, count, payload in _records(response):
        if kind == OUTPUT:
            info = model.outputs[step]
            result.outputs[info.name] = _array(info, payload)
        elif kind == TAP:
            result.taps[step, argument] = _array(model.steps[step].arguments[argument], payload)
        elif kind == PROBE:
            result.probes[probes[count].key] = _array(model.steps[step].arguments[argument], payload)
    return result


def _array(info: TensorInfo, payload: bytes) -> Array:
    return np.frombuffer(payload, info.dtype).reshape(info.shape).copy()
