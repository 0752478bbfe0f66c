"""What makes a student hold still: the terms are what they say, and training by them moves its answers less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn

pytest.importorskip("accelerate")

from bhpe_compile.distill import record
from bhpe_compile.distill.lesson import DistillOptions, Run
from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.distill.record import Place, read_checkpoint
from bhpe_compile.distill.stillness import MARGIN, SIGNS, Stillness
from bhpe_compile.distill.student import distill
from bhpe_compile.errors import StoppedError, UsageError
from bhpe_compile.networks.layers.binary import BinaryLinear
from tests.distill.people import People
from tests.distill.test_described import lesson

RECIPE = Recipe(images=16, batch=8, micro_batch=8, learning_rate=1e-3, warmup=2, precision="fp32")
PEOPLE = People()


class Difference:
    """A comparison of one output."""

    def with_labels(self, found: object, sample: object) -> dict[str, Tensor]:
        raise NotImplementedError

    def with_teacher(self, found: dict[str, Tensor], taught: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"pose": (found["pose"] - taught["pose"]).abs().mean()}


class Signs(nn.Module):
    """One binary layer, whose thresholds are 1 and -1."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = BinaryLinear(torch.ones(3, 2))
        self.layer.threshold.copy_(torch.tensor([1.0, -1.0]))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"pose": self.layer(x)}


def still(**options: float) -> tuple[fx.GraphModule, Stillness]:
    network = fx.GraphModule(root := Signs(), _Tracer().trace(root))
    return network, Stillness(network, Difference(), {"pose": 3.0}, DistillOptions(**options))  # type: ignore[arg-type]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def test_terms_that_nobody_asked_for_are_left_out() -> None:
    network, nothing = still()
    assert (nothing.views, nothing.weights) == (1, {})
    assert network(torch.ones(4, 2)).keys() == {"pose"}
    assert nothing.terms(network(torch.ones(4, 2))) == {}
    assert still(margin=2.0)[1].weights == {"margin": 2.0}
    two = still(consistency=8.0)[1]
    assert (two.views, two.weights) == (2, {"consistency": 8.0, "signs": 8.0 * SIGNS})


def test_consistency_is_relative_to_how_far_people_are_apart() -> None:
    _, both = still(consistency=1.0)
    pose = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    read = torch.tensor([[0.0, 0.0], [0.0, 2.0], [4.0, 0.0], [4.0, 2.0]])
    terms = both.terms({"pose": pose, "signs.0": read})
    assert float(terms["consistency"]) == pytest.approx(1 / 10)
    assert float(terms["signs"]) == pytest.approx(2 / (2 * 2.5))  # mean squares 2 of 4, 0; spreads 4, 1
    larger = both.terms({"pose": 7 * pose + 3, "signs.0": 7 * read + 3})
    torch.testing.assert_close(larger, terms)
    same = both.terms({"pose": pose[[0, 0, 2, 2]], "signs.0": read[[0, 0, 2, 2]]})
    assert float(same["consistency"]) == float(same["signs"]) == 0
    alike = both.terms({"pose": torch.ones(4, 1), "signs.0": torch.ones(4, 2)})
    assert all(bool(torch.isfinite(term)) for term in alike.values())


def test_margin_is_the_part_of_the_way_to_where_values_are_clear() -> None:
    network, one = still(margin=1.0)
    far = torch.tensor([[3.0, 1.0], [-1.0, -3.0]])  # 2 from the thresholds, which is the rms
    assert float(one.terms(network(far))["margin"]) == 0
    near = torch.tensor([[1.0, 1.0], [3.0, -3.0]])  # in the first channel one on the threshold
    assert float(one.terms(network(near))["margin"]) == pytest.approx(1 / 4)
    rms = 2 / 2**0.5
    half = torch.tensor([[1 + MARGIN * rms / 2, 1.0], [3.0, -3.0]])
    assert float(one.terms(network(half))["margin"]) == pytest.approx(1 / 8, rel=0.02)  # the rms grows, too


def run(
    folder: Path, options: DistillOptions, recipe: Recipe = RECIPE, stop: int = 0
) -> list[dict[str, float]]:
    torch.set_num_threads(1)

    def tick(done: int, *_: object) -> None:
        if done == stop:
            raise StoppedError("enough")

    folder.mkdir(exist_ok=True)
    place = Place(folder / "work", workers=0)
    teacher = lesson().begin(PEOPLE, 0)
    return distill(
        lesson(), teacher, PEOPLE, None, Run(recipe, place, folder / "s.pt", tick=tick), options
    ).log


def test_training_makes_the_terms_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a training in which they are measured and count next to nothing."""
    monkeypatch.setattr(record, "LOG_EVERY", 5)
    recipe, nothing = replace(RECIPE, images=160, learning_rate=2e-3), 1e-6
    free = run(tmp_path / "free", DistillOptions(consistency=nothing, margin=nothing), recipe)[-1]
    alike = run(tmp_path / "alike", DistillOptions(consistency=500.0), recipe)[-1]
    clear = run(tmp_path / "clear", DistillOptions(consistency=nothing, margin=500.0), recipe)[-1]
    assert alike["consistency"] < 0.85 * free["consistency"]
    assert clear["margin"] < 0.95 * free["margin"]


def test_it_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same second views; and not from a run without them."""
    options = DistillOptions(consistency=20.0, margin=20.0)
    run(tmp_path / "a", options)
    monkeypatch.setattr(record, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    with pytest.raises(StoppedError):
        run(tmp_path / "b", options, stop=2)
    run(tmp_path / "b", options)
    straight, stopped = (read_checkpoint(tmp_path / name / "work")["network"] for name in ("a", "b"))
    assert all(torch.equal(value, stopped[name]) for name, value in straight.items())
    with pytest.raises(UsageError, match=r"holds another run \(consistency, margin differ"):
        run(tmp_path / "a", DistillOptions())


@pytest.mark.parametrize("size", [2, 5])
def test_two_views_of_two_pictures_have_to_fit(size: int, tmp_path: Path) -> None:
    recipe = replace(RECIPE, batch=2 * size, micro_batch=size)
    with pytest.raises(UsageError, match=f"--micro-batch must be even and 4 or more, not {size}"):
        run(tmp_path, DistillOptions(consistency=1.0), recipe)
