"""Verification: one picture through torch, ONNX Runtime and the compiled artefact."""

from bhpe_compile.check.verify.verify import VerificationResult, verify

__all__ = ["VerificationResult", "verify"]
