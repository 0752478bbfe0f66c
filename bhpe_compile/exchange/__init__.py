"""The ONNX boundary: what leaves torch and comes into the lowering."""
