"""Running a compiled model from Python, without torch and without TVM.

picture -> `load_picture` -> `Model.run` (or a `Session`, wherever it runs) -> `describe_person`, `draw_overlay`
"""

from bhpe_compile.runtime.model import Model
from bhpe_compile.runtime.open import open_session
from bhpe_compile.runtime.overlay import draw_overlay
from bhpe_compile.runtime.people import describe_person, pose_document
from bhpe_compile.runtime.picture import Picture, load_picture, make_feeds
from bhpe_compile.runtime.results import to_lists
from bhpe_compile.runtime.session import Execution, Probe, Session, StepInfo, TensorInfo

__all__ = [
    "Execution",
    "Model",
    "Picture",
    "Probe",
    "Session",
    "StepInfo",
    "TensorInfo",
    "describe_person",
    "draw_overlay",
    "load_picture",
    "make_feeds",
    "open_session",
    "pose_document",
    "to_lists",
]
