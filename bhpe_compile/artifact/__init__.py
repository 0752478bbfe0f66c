"""The artefact: a compiled model as a folder that needs neither torch nor TVM."""

from bhpe_compile.artifact.load import Reference, check_artifact, load_reference
from bhpe_compile.artifact.manifest import Manifest, load_manifest
from bhpe_compile.artifact.save import check_output, copy_artifact, write_artifact

__all__ = [
    "Manifest",
    "Reference",
    "check_artifact",
    "check_output",
    "copy_artifact",
    "load_manifest",
    "load_reference",
    "write_artifact",
]
