"""bhpe-compile: export and quantization tool chain for 3D human pose and shape networks."""

__version__ = "0.1.0"
