"""The lesson of any network: its interface decides what it sees in training, and what is compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx, nn

from bhpe_compile.distill.by_kind import ByKind, weights_of
from bhpe_compile.distill.lesson import Boxes, Lesson, Run
from bhpe_compile.distill.samples import Pictures, SampleSet
from bhpe_compile.distill.views import Views, person_box
from bhpe_compile.errors import UsageError
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.dataset import Dataset
from bhpe_compile.networks.interface import Interface
from bhpe_compile.networks.network import Network
from bhpe_compile.passes.binarize import trace
from bhpe_compile.runtime.picture import Picture

if TYPE_CHECKING:
    from accelerate import Accelerator

PEOPLE_FOR_THE_MEAN = 2000


class DescribedLesson:
    """The `Lesson` of a preset without one of its own. UsageError for inputs that no picture gives."""

    method = "forward"
    looks = False
    taps = True
    poses = False
    needs_pictures = True

    def __init__(self, network: Network, preset: str, interface: Interface) -> None:
        self._network, self._preset, self.interface = network, preset, interface
        self.spec = self.fact = f"{network.name}:{preset}"
        other = next((port.name for port in interface.inputs if port.kind == "tensor"), None)
        if self.needs_pictures and (other is not None or interface.picture is None):
            raise UsageError(
                f"{self.spec}: pictures say nothing of its input {other}: describe what the input is (--network "
                "FILE.toml), or let `distill` have an .npz of the inputs (--images FILE.npz)"
            )
        self.carried: Mapping[str, Any] = network.carried
        self.inputs = tuple(port.name for port in interface.inputs)
        self.weights: Mapping[str, float] = weights_of(interface, network.weights)

    def trace(self, model: nn.Module) -> fx.GraphModule:
        """The graph of the forward pass."""
        return trace(model, roles=self._network.roles)

    def begin(self, people: Dataset, seed: int) -> nn.Module:
        """The network as its description builds it, drawn from `seed`, beginning at the mean of the labels."""
        self._require_targets()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self._network.build(self._preset)
            if self._network.begin is not None:
                self._network.begin(model, self._all_targets(people))
        return model

    def look(
        self,
        network: fx.GraphModule,
        model: nn.Module,
        pictures: Pictures,
        run: Run,
        accelerator: Accelerator,
    ) -> Boxes:
        """Nothing is cropped by the network itself."""
        raise NotImplementedError

    def samples(
        self, pictures: Pictures | Dataset, seed: int, *, labelled: bool, boxes: Boxes | None, own: float
    ) -> SampleSet:
        """Every input, as `Views` makes it."""
        if not labelled:
            return Views(pictures, self.interface, seed)
        self._require_targets()
        labels = pictures.labels  # type: ignore[union-attr]
        return Views(pictures, self.interface, seed, labels=labels, targets=self._network.targets)

    def comparison(self, body: BodyModel | None) -> ByKind:
        """A loss for every output."""
        return ByKind(self.interface)

    def _require_targets(self) -> None:
        if self._network.targets is None:
            raise UsageError(
                f"{self._network.name}: its description does not say what labels mean for its outputs (`targets`); "
                "it cannot be trained on them. `distill` needs no labels"
            )

    def _all_targets(self, people: Dataset) -> dict[str, np.ndarray]:
        """What the outputs should be of the first people, [people, ...] by output."""
        assert self._network.targets is not None
        assert self.interface.picture is not None
        blank = np.broadcast_to(np.uint8(0), (512, 384, 3))
        view = Picture(blank, person_box()).seen_by(self.interface.picture)
        said = [
            self._network.targets(people.labels(i), view)
            for i in range(min(len(people), PEOPLE_FOR_THE_MEAN))
        ]
        return {name: np.stack([one[name] for one in said]) for name in said[0]}


def lesson_of(network: Network, preset: str, interface: Interface | None = None) -> Lesson:
    """How a preset learns: its description's own way, or the one that its interface makes."""
    if network.lesson is not None:
        own: Lesson = network.lesson(preset)
        return own
    return DescribedLesson(network, preset, interface or network.interface(preset))
