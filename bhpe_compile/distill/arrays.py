"""Samples from an .npz of a network's inputs, for networks whose inputs no picture gives."""

from __future__ import annotations

from pathlib import Path

from bhpe_compile.distill.described import DescribedLesson
from bhpe_compile.distill.lesson import Boxes
from bhpe_compile.distill.samples import Arrays, Key, Pictures, SampleSet
from bhpe_compile.errors import InputError
from bhpe_compile.evaluate.dataset import Dataset
from bhpe_compile.files import sha256
from bhpe_compile.networks.interface import Interface
from bhpe_compile.reading_arrays import open_npz

SUFFIX = ".npz"


class ArraySet:
    """The examples of a file: an array for each input, by name, float32 [examples, ...]. Every epoch sees them as they
    are.

    UsageError where the file cannot be read, InputError where it is damaged or its arrays do not fit `interface`.
    """

    def __init__(self, path: Path, interface: Interface) -> None:
        arrays = open_npz(path)
        self.arrays: Arrays = {}
        for port in interface.inputs:
            array = arrays.get(port.name)
            if array is None:
                raise InputError(
                    f"{path}: has no array {port.name!r}; it holds {', '.join(arrays) or 'none'}"
                )
            if str(array.dtype) != "float32" or array.shape[1:] != port.shape[1:] or not len(array):
                raise InputError(
                    f"{path}: {port.name} must be float32 [examples, {', '.join(map(str, port.shape[1:]))}], "
                    f"not {array.dtype} {list(array.shape)}"
                )
            self.arrays[port.name] = array
        counts = {name: len(array) for name, array in self.arrays.items()}
        if len(set(counts.values())) > 1:
            raise InputError(f"{path}: its arrays hold different numbers of examples: {counts}")
        self.name = f"arrays of {path.name}"
        self.fingerprint = sha256(path)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, key: Key) -> Arrays:
        return {name: array[key[1]] for name, array in self.arrays.items()}


class ArraysLesson(DescribedLesson):
    """The `Lesson` of a network that is shown arrays."""

    needs_pictures = False

    def samples(
        self,
        pictures: Pictures | Dataset | ArraySet,
        seed: int,
        *,
        labelled: bool,
        boxes: Boxes | None,
        own: float,
    ) -> SampleSet:
        """The arrays."""
        assert isinstance(pictures, ArraySet)
        return pictures
