"""Verification: one picture through torch, ONNX Runtime and the compiled artefact (see `verify`)."""
