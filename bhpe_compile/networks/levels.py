"""What 8-bit layers and their training agree on, without torch."""

INPUT_LEVELS = 255
"""The largest level of an 8-bit input; the smallest is 0."""
