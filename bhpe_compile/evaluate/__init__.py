"""Accuracy in millimetres: a body, people with ground truth, metrics, and the gate that holds a model to them."""
