"""Running a compiled model from Python, without torch and without TVM."""

from bhpe_compile.runtime.model import Model
from bhpe_compile.runtime.session import Execution, Probe, Session, StepInfo, TensorInfo, open_session

__all__ = ["Execution", "Model", "Probe", "Session", "StepInfo", "TensorInfo", "open_session"]
