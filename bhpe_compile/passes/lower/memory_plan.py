"""One arena for all activations: first fit over live ranges, biggest buffers first.

Two buffers may share bytes when no step needs both. Inputs and outputs live for the whole run, so a caller
can write the next picture or read the last result at any time between runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bhpe_compile.artifact.program import ALIGNMENT

FOREVER = 1 << 60


def aligned(nbytes: int) -> int:
    """`nbytes` rounded up to the alignment kernels assume."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def live_ranges(steps: Sequence[Sequence[int]], pinned: Sequence[int]) -> dict[int, tuple[int, int]]:
    """First and last step that touches each buffer; `pinned` buffers live all the time."""
    live: dict[int, tuple[int, int]] = {}
    for index, buffers in enumerate(steps):
        for buffer in buffers:
            first, _ = live.get(buffer, (index, index))
            live[buffer] = (first, index)
    live.update(dict.fromkeys(pinned, (-1, FOREVER)))
    return live


def plan(sizes: Mapping[int, int], live: Mapping[int, tuple[int, int]]) -> tuple[dict[int, int], int]:
    """Offset of each live buffer and the arena's size, in bytes. Deterministic."""
    offsets: dict[int, int] = {}
    placed: list[tuple[int, int, int, int]] = []  # offset, size, first step, last step
    total = 0
    for buffer in sorted(live, key=lambda b: (-sizes[b], b)):
        first, last = live[buffer]
        size, at = aligned(sizes[buffer]), 0
        for offset, length, start, end in sorted(placed):
            if start > last or end < first:
                continue
            if at + size <= offset:
                break
            at = max(at, offset + length)
        offsets[buffer] = at
        placed.append((at, size, first, last))
        total = max(total, at + size)
    return offsets, total
