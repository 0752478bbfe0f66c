"""The ONNX boundary: what leaves torch and comes into the lowering."""

INPUT = "image"
"""The network's input, by name."""
