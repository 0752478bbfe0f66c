"""The arena: nothing that lives at the same time overlaps, whatever the sizes and ranges."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bhpe_compile.artifact.program import ALIGNMENT
from bhpe_compile.passes.lower.memory_plan import FOREVER, aligned, live_ranges, plan


def test_live_ranges_span_first_to_last_use() -> None:
    steps = [[0, 1], [1, 2], [2, 3], [1, 3]]
    assert live_ranges(steps, pinned=[0, 3]) == {0: (-1, FOREVER), 1: (0, 3), 2: (1, 2), 3: (-1, FOREVER)}


def test_nothing_needs_nothing() -> None:
    assert plan({}, {}) == ({}, 0)
    assert plan({7: 1}, {7: (0, 0)}) == ({7: 0}, ALIGNMENT)
    assert [aligned(n) for n in (0, 1, ALIGNMENT, ALIGNMENT + 1)] == [0, ALIGNMENT, ALIGNMENT, 2 * ALIGNMENT]


def test_the_largest_is_placed_first_and_gaps_are_used() -> None:
    """A small buffer goes between two that live as long, where a third has ended."""
    sizes = {0: 64, 1: 256, 2: 128, 3: 64}
    live = {0: (2, 3), 1: (0, 1), 2: (1, 3), 3: (3, 4)}
    offsets, total = plan(sizes, live)
    assert offsets == {1: 0, 2: 256, 0: 0, 3: 64}
    assert total == 384


def test_neighbours_in_time_overlap() -> None:
    """A step's input is read while its output is written: live to 3 and live from 3 do not share bytes."""
    assert plan({0: 64, 1: 64}, {0: (0, 3), 1: (3, 5)})[1] == 128
    assert plan({0: 64, 1: 64}, {0: (0, 3), 1: (4, 5)})[1] == 64


def test_a_chain_needs_two_buffers() -> None:
    sizes = dict.fromkeys(range(6), 1000)
    _, total = plan(sizes, {i: (i, i + 1) for i in range(6)})
    assert total == 2 * aligned(1000)


@given(
    st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 20), st.integers(0, 10)), min_size=1, max_size=30)
)
def test_live_buffers_never_overlap(items: list[tuple[int, int, int]]) -> None:
    sizes = {i: size for i, (size, _, _) in enumerate(items)}
    live = {i: (start, start + length) for i, (_, start, length) in enumerate(items)}
    offsets, total = plan(sizes, live)
    for i in live:
        assert offsets[i] % ALIGNMENT == 0
        assert offsets[i] + sizes[i] <= total
        for j in live:
            together = live[i][0] <= live[j][1] and live[j][0] <= live[i][1]
            apart = offsets[i] + sizes[i] <= offsets[j] or offsets[j] + sizes[j] <= offsets[i]
            assert i == j or apart or not together
    assert total <= sum(aligned(size) for size in sizes.values())
