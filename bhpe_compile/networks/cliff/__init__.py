"""CLIFF and its BEDLAM variants: the box in the full picture is a second input."""
