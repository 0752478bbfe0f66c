"""Ranges of what full-precision layers read: the definition of the best range, and where samples come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import fx, nn

from bhpe_compile.errors import InputError
from bhpe_compile.exchange import ranges as module
from bhpe_compile.exchange.calibrate import Calibration, calibrate
from bhpe_compile.exchange.ranges import SAMPLES, SHRINKS, best_range


def squared_error(samples: NDArray[np.float32], low: float, high: float) -> float:
    step = (high - low) / 255
    zero = np.rint(-low / step)
    levels = np.clip(np.rint(samples / step) + zero, 0, 255)
    return float((((levels - zero) * step - samples) ** 2).sum())


@settings(max_examples=30)
@given(
    seed=st.integers(0, 99), low=st.floats(-5, 0), high=st.floats(0, 5), outlier=st.sampled_from([1, 3, 50])
)
def test_no_tried_range_is_better(seed: int, low: float, high: float, outlier: float) -> None:
    samples = np.random.default_rng(seed).uniform(low, max(high, low + 0.1), 500).astype(np.float32)
    samples[0] *= outlier
    least, most = min(0.0, float(samples.min())), max(0.0, float(samples.max()))
    found = best_range(samples)
    assert least <= found[0] <= 0 <= found[1] <= most
    best = squared_error(samples, *found)
    assert all(best <= squared_error(samples, least * s, most * s) * (1 + 1e-6) for s in SHRINKS)


def test_one_large_value_does_not_coarsen_the_rest() -> None:
    samples = np.concatenate([np.linspace(0, 1, 60000), [3.5]]).astype(np.float32)
    assert best_range(samples)[1] < 3.5
    assert best_range(np.linspace(-1, 1, 1000).astype(np.float32)) == (-1, 1)


def test_a_constant_zero_has_no_range() -> None:
    assert best_range(np.zeros(9, np.float32)) == (0, 0)
    assert best_range(np.full(9, 2, np.float32)) == pytest.approx((0, 2), rel=0.01)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.up = nn.ConvTranspose2d(4, 2, 4, 2, 1)
        self.last = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.up(torch.relu(self.first(x)))
        return {"y": self.last(y.mean((2, 3)))}


def test_convolutions_are_observed() -> None:
    torch.manual_seed(0)
    graph = fx.symbolic_trace(Network().eval())
    image = np.random.default_rng(0).uniform(-1, 2, (1, 3, 200, 300)).astype(np.float32)
    told: list[str] = []
    calibration = calibrate(graph, [{"image": image}, {"image": image * 2}], told.append)
    assert (calibration.pictures, len(told)) == (2, 2)
    assert set(calibration.samples) == {"first", "up"}
    samples, others = calibration.samples["first"]
    assert len(samples) <= 2 * SAMPLES
    assert (samples.min(), samples.max()) == (image.min(), image.max())
    assert (others.min(), others.max()) == (image.min() * 2, image.max() * 2)
    assert not any(module._forward_pre_hooks for module in graph.modules())
    low, high = calibration.ranges()["first"]
    assert image.min() * 2 <= low < image.min()
    assert image.max() < high <= image.max() * 2
    assert calibration.ranges()["up"][0] == 0  # behind a ReLU


def test_many_pictures_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the limit the ranges are the same bits; beyond it they differ by a step or two of the shrinks."""
    rng = np.random.default_rng(1)
    torch.manual_seed(1)
    graph = fx.symbolic_trace(Network().eval())
    pictures = [{"image": rng.normal(0, 1, (1, 3, 24, 32)).astype(np.float32)} for _ in range(60)]
    exact = calibrate(graph, pictures)
    monkeypatch.setattr(module, "LIMIT", exact.kept)
    assert calibrate(graph, pictures).ranges() == exact.ranges()
    monkeypatch.setattr(module, "LIMIT", 9000)
    bounded = calibrate(graph, pictures)
    assert bounded.pictures == 60
    assert sum(part.size for parts in bounded.samples.values() for part in parts) <= 9000
    for path, (low, high) in exact.ranges().items():
        width = float(np.ptp(exact.extremes[path]))
        assert bounded.ranges()[path] == pytest.approx((low, high), abs=2 / 32 * width)
        assert (bounded.extremes[path] == exact.extremes[path]).all()
    sizes = [part.size for part in bounded.samples["first"]]
    assert max(sizes[1:]) < 24 * 32 * 3 / 8  # later pictures are thinned as the first ones were


def test_a_picture_that_makes_a_layer_read_nan_is_refused() -> None:
    torch.manual_seed(0)
    network = Network().eval()
    with torch.no_grad():
        network.first.weight[0] = 3e38  # finite, its sums are not
    pictures = [{"image": np.full((1, 3, 9, 9), level, np.float32)} for level in (0, 9, 0)]
    with pytest.raises(InputError, match="layer first: NaN or infinity on picture 2 of the calibration"):
        calibrate(fx.symbolic_trace(network), pictures)


def test_a_layer_that_reads_nan_behind_which_all_is_finite_is_refused() -> None:
    calibration = Calibration()
    calibration.observe("up", torch.tensor([0.0, float("nan")]))
    with pytest.raises(InputError, match="layer up: reads NaN or infinity"):
        calibration.ranges()
