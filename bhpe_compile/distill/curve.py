"""The log of a run as a picture: the loss, its terms and the learning rate against images seen."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from bhpe_compile.errors import ToolchainError
from bhpe_compile.files import write_atomically

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
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(9, 8), sharex=True, height_ratios=(2, 3))
    top.plot(images, [entry["loss"] for entry in log], color="black", linewidth=1.4)
    top.set_ylabel("loss (weighted sum)")
    top.set_title(title)
    rate = top.twinx()
    rate.plot(images, [entry["lr"] for entry in log], color="tab:orange", linewidth=0.9)
    rate.set_ylabel("learning rate", color="tab:orange")
    colours = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
    for name, colour in zip(names, colours * 2, strict=False):
        bottom.plot(images, [entry.get(name) for entry in log], label=name, color=colour, linewidth=1)
    bottom.set_yscale("log")
    bottom.set_ylabel("terms, unweighted")
    bottom.set_xlabel("images seen")
    bottom.legend(ncols=3, fontsize=8, frameon=False)
    for axes in (top, bottom):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png", metadata={"Software": None})
    plt.close(figure)
    write_atomically(path, buffer.getbuffer())
