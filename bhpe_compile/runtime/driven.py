"""A session on a machine: the artefact's static driver answers one request file with one response file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bhpe_compile.artifact.load import read_file
from bhpe_compile.artifact.manifest import Manifest
from bhpe_compile.errors import BhpeError, InputError
from bhpe_compile.networks.interface import Interface
from bhpe_compile.runtime.machine import DRIVER, REQUEST, RESPONSE, WEIGHTS, Machine
from bhpe_compile.runtime.protocol import (
    describe_request,
    execute_request,
    is_whole,
    parse_description,
    parse_execution,
)
from bhpe_compile.runtime.session import Array, Execution, Place, Probe, Session
from bhpe_compile.runtime.spread import Spread

INPUT = "input"

TIMES = re.compile(r"median (?P<median>[\d.]+) fastest (?P<fastest>[\d.]+) p90 (?P<p90>[\d.]+)")


class DrivenSession(Session):
    """A model whose driver runs on `machine`, once per request. The session closes the machine."""

    def __init__(self, path: Path, manifest: Manifest, machine: Machine, threads: int = 1) -> None:
        self.executed = machine.executed
        self.interface = Interface.from_dict(manifest["network"])
        self._machine = machine
        self._threads = ["--threads", str(threads)] if threads > 1 else []
        try:
            if DRIVER not in manifest["files"]:
                raise InputError(f"{path}: holds no driver to run; compile the model again")
            machine.put(DRIVER, read_file(path, manifest, DRIVER), program=True)
            machine.put(WEIGHTS, read_file(path, manifest, WEIGHTS))
            self._description = parse_description(self._answer(describe_request()))
        except BaseException:
            machine.close()
            raise
        self.inputs, self.outputs = self._description.inputs, self._description.outputs
        self.steps = self._description.steps

    def _answer(self, request: bytes) -> bytes:
        self._machine.put(REQUEST, request)
        self._machine.put(RESPONSE, b"")  # what an earlier request was answered is no answer to this one
        ran = self._machine.run(DRIVER, [WEIGHTS, REQUEST, RESPONSE, *self._threads])
        response = self._machine.get(RESPONSE)
        if not response:
            raise InputError(f"the driver did not answer: {ran.problem or 'no message'}")
        if ran.problem and not is_whole(response):
            raise BhpeError(f"the driver stopped in the middle of its response: {ran.problem}")
        return response

    def _execute(
        self,
        inputs: Sequence[Array],
        taps: Sequence[Place],
        probes: Sequence[Probe],
        forced: Mapping[Place, Array],
    ) -> Execution:
        response = self._answer(execute_request(inputs, taps, probes, forced))
        return parse_execution(response, self._description, probes)

    def time(self, inputs: Mapping[str, Array], rounds: int) -> Spread:
        """How long a run on `inputs` takes by the driver's own clock, of `rounds`."""
        names = []
        for index, array in enumerate(self._feeds(inputs)):
            names.append(f"{INPUT}{index}")
            self._machine.put(names[-1], array.tobytes())
        ran = self._machine.run(DRIVER, [WEIGHTS, "--time", str(rounds), *names, *self._threads])
        found = TIMES.search(ran.output)
        if found is None:
            raise InputError(f"the driver could not be timed: {ran.problem or 'no message'}")
        return Spread(**{name: float(value) / 1e3 for name, value in found.groupdict().items()})

    def close(self) -> None:
        """Remove the folder on the machine."""
        self._machine.close()
