"""A session in this process: the library is loaded by ctypes and its steps are run one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bhpe_compile.runtime.model import Model, aligned_copy
from bhpe_compile.runtime.session import Array, Execution, Place, Probe, Session


class InProcessSession(Session):
    """A loaded model under observation."""

    executed = "in this process"

    def __init__(self, model: Model) -> None:
        self._model = model
        self.interface = model.interface
        self.inputs, self.outputs, self.steps = model.inputs, model.outputs, model.steps

    def _execute(
        self,
        inputs: Sequence[Array],
        taps: Sequence[Place],
        probes: Sequence[Probe],
        forced: Mapping[Place, Array],
    ) -> Execution:
        model = self._model
        for index, array in enumerate(inputs):
            model.input(index)[...] = array
        tapped: dict[Place, Array] = {}
        probed: dict[str, Array] = {}
        for step in range(len(self.steps)):
            model.execute_step(step)
            tapped.update({(s, k): model.argument(s, k).copy() for s, k in taps if s == step})
            probed.update({p.key: self._run_probe(p) for p in probes if p.step == step})
            for (s, k), array in forced.items():
                if s == step:
                    model.argument(s, k)[...] = array
        outputs = {info.name: model.output(i).copy() for i, info in enumerate(self.outputs)}
        return Execution(outputs, tapped, probed)

    def _run_probe(self, probe: Probe) -> Array:
        """Copies of everything but the weights, so that the model is left as it was."""
        copies = {
            k: aligned_copy(probe.arrays[k] if k in probe.arrays else self._model.argument(probe.step, k))
            for k, info in enumerate(self.steps[probe.step].arguments)
            if k in probe.arrays or not info.constant
        }
        self._model.execute_step(probe.step, copies)
        result = copies.get(probe.result)
        return self._model.argument(probe.step, probe.result).copy() if result is None else result.copy()

    def close(self) -> None:
        """Release the model."""
        self._model.close()


def open_in_process(path: Path, threads: int = 1) -> InProcessSession:
    """Load the artefact at `path` here; see `Model` for errors."""
    return InProcessSession(Model(path, threads))
