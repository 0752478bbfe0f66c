"""The recipe refuses nonsense; the learning rate rises, then falls."""

from __future__ import annotations

import pytest

from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.errors import UsageError


def test_rate_rises_to_its_peak_and_falls_to_a_hundredth() -> None:
    recipe = Recipe(images=6400, batch=4, micro_batch=2, learning_rate=1e-2, warmup=50)
    rates = [recipe.rate(step) for step in range(recipe.steps)]
    assert recipe.steps == 1600
    assert rates[:50] == sorted(rates[:50])
    assert rates[49] == rates[50] == max(rates) == 1e-2
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[-1] == pytest.approx(1e-4, rel=0.01)  # half a cosine is flat at its end


def test_runs_from_before_averages_go_on() -> None:
    assert "average" not in Recipe(images=100).to_dict()
    assert Recipe(images=100, average=5).to_dict()["average"] == 5


def test_a_short_run_warms_up_for_a_tenth() -> None:
    recipe = Recipe(images=100, batch=1, micro_batch=1, warmup=1000)
    assert max(range(recipe.steps), key=recipe.rate) in (9, 10)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": 0}, "images must be at least 1"),
        ({"images": 10}, "10 images do not fill one batch of 64"),
        ({"images": 100, "batch": 10, "micro_batch": 4}, "does not divide"),
        ({"images": 100, "learning_rate": 0.0}, "learning rate must be above 0"),
        ({"images": 100, "learning_rate": float("nan")}, "learning rate must be above 0"),
        ({"images": 100, "average": -1}, "average must be 0 or more steps"),
    ],
)
def test_nonsense_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe(**values)  # type: ignore[arg-type]
