"""An inspector that writes what it is shown into numbered files, and ends the compilation where it is told to.

    000_binarize_trace.txt ... 012_fold_fold-batch-norm.txt ... 027_lower_program.txt

Numbers count everything that is shown, written or not: the same compilation gives a pass the same number.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from bhpe_compile.check.inspect.text import text_of
from bhpe_compile.errors import UsageError
from bhpe_compile.files import write_atomically
from bhpe_compile.text import to_utf8

if TYPE_CHECKING:
    from bhpe_compile.passes.base import PassRecord

ALL = "all"

NAME = re.compile(r"\d{3}_[a-z]+_[a-z_-]+\.(txt|onnx)")
"""What a dump is called; older dumps in the folder are recognised by it."""


class Stopped(Exception):  # noqa: N818  (no error: the user asked for it)
    """The compilation ended behind the pass it was to stop at; `files` were written."""

    def __init__(self, point: str, files: tuple[Path, ...]) -> None:
        super().__init__(f"stopped after {point}")
        self.point = point
        self.files = files


class Dumper:
    """Writes the graphs after the passes named in `after` ("all" for every one) into `folder`.

    stop: the name behind which `Stopped` is raised; what stands there is always written. onnx: ONNX graphs are
    written as .onnx files as well. The folder is made when it is missing; dumps of an earlier run in it are removed.
    UsageError when it holds anything else or cannot be written.
    """

    def __init__(
        self, folder: Path, after: tuple[str, ...], *, stop: str | None = None, onnx: bool = False
    ) -> None:
        self.folder = folder
        self.after = frozenset(after) | ({stop} if stop is not None else set())
        self.stop = stop
        self.onnx = onnx
        self.files: list[Path] = []
        self._count = 0
        self._prepare()

    def look(self, stage: str, point: str, subject: object, record: PassRecord | None) -> None:
        """Write `subject` if it is wanted."""
        number, self._count = self._count, self._count + 1
        if point in self.after or ALL in self.after:
            name = f"{number:03}_{stage}_{point}"
            self._write(f"{name}.txt", to_utf8(_header(stage, point, record) + text_of(subject)))
            if self.onnx and (content := _onnx_bytes(subject)):
                self._write(f"{name}.onnx", content)
        if point == self.stop:
            raise Stopped(point, tuple(self.files))

    def _prepare(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            old = list(self.folder.iterdir())
            others = sorted(path.name for path in old if not NAME.fullmatch(path.name))
            if others:
                raise UsageError(
                    f"{self.folder}: also holds {others[0]}, which is no dump; name another --dump-dir"
                )
            for path in old:
                path.unlink()
        except OSError as error:
            raise UsageError(
                f"{self.folder}: cannot be written ({error.strerror}); name another --dump-dir"
            ) from None

    def _write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        try:
            write_atomically(path, content)
        except OSError as error:
            raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
        self.files.append(path)


def _header(stage: str, point: str, record: PassRecord | None) -> str:
    lines = [f"# after {point}, stage {stage}"]
    if record is not None:
        lines.append(f"# {'changed the graph' if record.modified else 'changed nothing'}")
        lines += [
            f"# {'applied' if note.applied else 'refused'} {note.site}: {note.reason}"
            for note in record.notes
        ]
    return "\n".join([*lines, "", ""])


def _onnx_bytes(subject: object) -> bytes | None:
    import onnx_ir as ir

    if not isinstance(subject, ir.Model):
        return None
    proto = ir.to_proto(subject)
    known = {entry.domain for entry in proto.opset_import}
    for domain in sorted({node.domain for node in proto.graph.node} - known):
        proto.opset_import.add(domain=domain, version=1)
    return bytes(proto.SerializeToString(deterministic=True))
