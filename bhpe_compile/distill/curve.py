"""The log of a run as a picture: the loss, its terms and the learning rate against images seen."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from bhpe_compile.errors import ToolchainError
from bhpe_compile.files import write_atomically

FEW = 40
"""Entries that are drawn as points as well."""

NOT_TERMS = frozenset({"step", "images", "lr", "loss"})


def draw(log: Sequence[dict[str, float]], path: Path, title: str) -> None:
    """Write the curve as PNG. ToolchainError without matplotlib."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ToolchainError("drawing needs matplotlib: pip install '.[train]'") from error
    images = [entry["images"] for entry in log]
    names = sorted({name for entry in log for name in entry} - NOT_TERMS)
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(10, 8), sharex=True, height_ratios=(2, 3))
    marker = "o" if len(log) <= FEW else ""  # a line through one or two points shows nothing
    top.plot(images, [entry["loss"] for entry in log], color="black", linewidth=1.4, marker=marker)
    top.set_ylabel("loss (weighted sum)")
    top.set_title(title)
    rate = top.twinx()
    rate.plot(images, [entry["lr"] for entry in log], color="tab:orange", linewidth=0.9, marker=marker)
    rate.set_ylim(0, 1.3 * max(entry["lr"] for entry in log))  # its first point is not the loss's
    rate.set_ylabel("learning rate", color="tab:orange")
    colours = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
    for name, colour in zip(names, colours * 2, strict=False):
        values = [entry.get(name) for entry in log]
        bottom.plot(images, values, label=name, color=colour, linewidth=1, marker=marker, markersize=4)
    bottom.set_yscale("log")
    bottom.set_ylabel("terms, unweighted")
    bottom.set_xlabel("images seen")
    # beside the curves, the best to read where they end: from the largest down
    handles, labels = bottom.get_legend_handles_labels()
    last = {name: next((e[name] for e in reversed(log) if name in e), 0.0) for name in labels}
    order = sorted(range(len(labels)), key=lambda i: -last[labels[i]])
    bottom.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        fontsize=8,
        frameon=False,
    )
    for axes in (top, bottom):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png", metadata={"Software": None})
    plt.close(figure)
    write_atomically(path, buffer.getbuffer())
