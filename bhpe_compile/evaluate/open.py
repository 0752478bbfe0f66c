"""Which data set a folder holds."""

from __future__ import annotations

from pathlib import Path

from bhpe_compile.errors import UsageError
from bhpe_compile.evaluate import agora, ehf
from bhpe_compile.evaluate.dataset import Dataset, SynthDataset
from bhpe_compile.evaluate.synth.store import MANIFEST
from bhpe_compile.evaluate.synth.streams import SPLITS


def open_dataset(path: Path, split: str | None = None, body: Path | None = None) -> Dataset:
    """Open a folder that `data synth` wrote, or EHF or AGORA as their `ehf` and `agora` modules describe them.

    `split`: of AGORA "train" or "validation" (the default); a synthetic set must have it. `body`: the SMPL-X file that
    AGORA's poses need. Raises UsageError (no such folder, none of these sets) and InputError (damaged).
    """
    if not path.is_dir():
        raise UsageError(f"{path}: no such folder")
    if (path / MANIFEST).exists():
        synth = SynthDataset(path)
        if split is not None and split != synth.split:
            raise UsageError(
                f"{path}: is the {synth.split} split, not {split!r} (there are {', '.join(SPLITS)})"
            )
        return synth
    if ehf.looks_like(path):
        return ehf.EhfDataset(path)
    if agora.looks_like(path):
        return agora.AgoraDataset(path, split or "validation", body)
    raise UsageError(
        f"{path}: holds neither {MANIFEST} (`data synth`) nor {ehf.INDEX} or *_align.ply (EHF) "
        f"nor AGORA_*_SMPLX.json (AGORA)"
    )
