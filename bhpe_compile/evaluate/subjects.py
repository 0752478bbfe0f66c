"""What can be evaluated: a torch network, a compiled artefact, and the mean pose. Each maps pictures to outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bhpe_compile.evaluate.frame import FRAME
from bhpe_compile.evaluate.people import Outputs, require_body
from bhpe_compile.networks.interface import BodyOutputs, Interface
from bhpe_compile.runtime.open import open_session
from bhpe_compile.runtime.results import check_finite
from bhpe_compile.runtime.session import Session

Inputs = Mapping[str, NDArray[np.float32]]
"""Inputs by name, in order, each [N, ...]."""

BODY = BodyOutputs("root", "body", "jaw", "left_hand", "right_hand", "shape", "expression")
"""Outputs of a subject that is no network."""

PUBLIC = "public"
"""The layout of published checkpoints. Those networks were trained through the smplx package, which adds the body's
mean hand to their finger poses; networks trained here give whole rotations."""


class Subject(Protocol):
    """One row of a table."""

    @property
    def name(self) -> str: ...

    @property
    def executed(self) -> str:
        """Where it runs: "torch", "in this process", "qemu-aarch64", "unicorn"; "" where nothing is run."""

    @property
    def relative_hands(self) -> bool:
        """Whether finger poses count from the body's mean hand."""

    @property
    def interface(self) -> Interface:
        """What it reads and says."""

    def predict(self, inputs: Inputs) -> Outputs: ...


@dataclass(frozen=True)
class TorchSubject:
    """A network or graph that returns a dict of outputs. It is put into eval mode; `device` is where it runs."""

    name: str
    network: nn.Module
    interface: Interface
    relative_hands: bool = False
    device: str = "cpu"
    executed: str = "torch"

    def predict(self, inputs: Inputs) -> Outputs:
        """All pictures at once."""
        self.network.eval()
        with torch.no_grad():
            outputs = self.network(*(torch.from_numpy(one).to(self.device) for one in inputs.values()))
        return {name: value.cpu().numpy() for name, value in outputs.items()}


@dataclass(frozen=True)
class FrozenSubject:
    """A network as it ships. compute: inputs of several pictures by name -> outputs by name."""

    name: str
    compute: Callable[[Inputs], Outputs]
    interface: Interface
    relative_hands: bool = False
    executed: str = "torch"

    def predict(self, inputs: Inputs) -> Outputs:
        """All pictures at once."""
        outputs = self.compute(inputs)
        check_finite(outputs)
        return outputs


@dataclass(frozen=True)
class CompiledSubject:
    """An artefact, one picture after the other."""

    name: str
    session: Session
    relative_hands: bool = False

    @property
    def executed(self) -> str:
        """Where its code runs."""
        return self.session.executed

    @property
    def interface(self) -> Interface:
        """As its manifest says."""
        return self.session.interface

    @property
    def emulated(self) -> bool:
        """Whether another CPU has to be imitated, which takes seconds a picture."""
        return self.session.executed != IN_PROCESS

    def predict(self, inputs: Inputs) -> Outputs:
        """One run a picture."""
        count = len(next(iter(inputs.values())))
        runs = [
            self.session.execute({name: array[i : i + 1] for name, array in inputs.items()}).outputs
            for i in range(count)
        ]
        for run in runs:
            check_finite(run)
        return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}


IN_PROCESS = "in this process"

CONSTANT = Interface(inputs=(FRAME,), body=BODY)


@dataclass(frozen=True)
class ConstantSubject:
    """The same pose and shape for every picture. `pose` [55, 3] axis-angle, `betas` and `expression` [10]."""

    name: str
    pose: NDArray[np.float32]
    betas: NDArray[np.float32]
    expression: NDArray[np.float32]
    executed: str = ""
    relative_hands: bool = False
    interface: Interface = CONSTANT

    def predict(self, inputs: Inputs) -> Outputs:
        """No boxes: it has not looked."""
        count = len(next(iter(inputs.values())))
        parts = np.split(self.pose, [1, 22, 23, 25, 40])
        values = [part.ravel() for k, part in enumerate(parts) if k != 3]  # without the eyes
        values += [self.betas, self.expression]
        return {name: np.tile(value, (count, 1)) for name, value in zip(BODY.names, values, strict=True)}


@contextmanager
def open_artifact(path: Path, name: str) -> Iterator[CompiledSubject]:
    """An artefact, on this CPU or emulated.

    Raises InputError where its outputs are not those of a whole-body network, and what `open_session` raises.
    """
    from bhpe_compile.artifact.manifest import load_manifest

    with open_session(path) as session:
        require_body(session.interface, str(path))
        yield CompiledSubject(name, session, layout_of(load_manifest(path)) == PUBLIC)


def layout_of(manifest: Mapping[str, Any]) -> str | None:
    """The layout of the checkpoint an artefact was compiled from; None where it was no checkpoint."""
    model = manifest.get("model")
    return model.get("layout") if isinstance(model, dict) else None


def renamed(subject: TorchSubject, name: str) -> TorchSubject:
    """The same network under another name."""
    return replace(subject, name=name)
