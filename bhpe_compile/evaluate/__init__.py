"""Accuracy: bodies, data sets with ground truth, and metrics in millimetres."""
