"""Boards by name: each is a target of the list, under the name that stands on the box."""

from __future__ import annotations

BOARDS = {
    "rpi2": ("armv7", "Raspberry Pi 2, and any Pi with a 32-bit system"),
    "rpi3": ("arm-a53", "Raspberry Pi 3 and Zero 2 W, 64-bit system (Cortex-A53)"),
    "rpi4": ("arm", "Raspberry Pi 4, 64-bit system (Cortex-A72)"),
    "rpi5": ("arm-a76", "Raspberry Pi 5 (Cortex-A76)"),
    "jetson-nano": ("arm", "NVIDIA Jetson Nano (Cortex-A57, out of order as the A72)"),
    "jetson-orin": ("arm-a76", "NVIDIA Jetson Orin (Cortex-A78AE, with dot products)"),
    "pixel": ("arm-a76", "Google Pixel 4 and later (Cortex-A76 and later, with dot products)"),
    "visionfive2": ("riscv64", "StarFive VisionFive 2 (U74, no vectors)"),
    "bpi-f3": ("riscv64-v", "Banana Pi BPI-F3 (SpacemiT K1, vectors of 256 bits)"),
}
"""Name -> target and what is meant."""
