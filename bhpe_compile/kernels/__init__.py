"""What a compiled model is made of: TIR generators, each with its argument list and a NumPy reference.

Exported: the kernel descriptions `BinaryConv2d`, `BinaryConvTranspose2d`, `DenseConv2d`, `DenseConvTranspose2d`,
`DepthwiseConv2d`, `HeatMap`, `Int8Conv2d`, `Int8ConvTranspose2d`, `Int8DepthwiseConv2d`, `MaxPool2d`, `PackBits`,
`Quantize`, `Crop`, `FixedPointSplit`, `FixedPointLinear`, `CellMean`, `Logistic`, `RotationVector`, `SamplePoints`,
`SoftArgmax`, `TransposeChannels`, `ConvertFloats`; `binary_linear` (a binary dense layer as a 1x1 convolution); their
parts `Epilogue`, `Residual`, `Parameter`; the base class `Kernel`; `PASS_CONFIG` to compile them under.

Float activations are NHWC, float32 or, where a kernel says so, float16.
Packed bits are uint8 [N, H+2b, W+2b, 4*ceil(C/32)]: channel c is bit c%8
of byte c//8, the border b and unused bits are 0; every kernel writes its outputs completely, borders
included.
Kernels are serial, allocate nothing, and call at most `memset` and `memcpy`. They may not run in place.
"""

from __future__ import annotations

from bhpe_compile.kernels.binary_conv import BinaryConv2d, binary_linear
from bhpe_compile.kernels.binary_deconv import BinaryConvTranspose2d
from bhpe_compile.kernels.convert_floats import ConvertFloats
from bhpe_compile.kernels.crop import Crop
from bhpe_compile.kernels.dense_conv import DenseConv2d
from bhpe_compile.kernels.dense_deconv import DenseConvTranspose2d
from bhpe_compile.kernels.depthwise_conv import DepthwiseConv2d
from bhpe_compile.kernels.epilogue import Epilogue, Levels, Residual
from bhpe_compile.kernels.fixed_point import FixedPointLinear, FixedPointSplit
from bhpe_compile.kernels.heat_maps import HeatMap, SoftArgmax
from bhpe_compile.kernels.int8_conv import Int8Conv2d
from bhpe_compile.kernels.int8_deconv import Int8ConvTranspose2d
from bhpe_compile.kernels.int8_depthwise import Int8DepthwiseConv2d
from bhpe_compile.kernels.join_channels import JoinChannels
from bhpe_compile.kernels.kernel import Kernel, Parameter
from bhpe_compile.kernels.map_mean import MapMean
from bhpe_compile.kernels.max_pool import MaxPool2d
from bhpe_compile.kernels.pack_bits import PackBits
from bhpe_compile.kernels.quantize import Quantize
from bhpe_compile.kernels.sample_points import SamplePoints
from bhpe_compile.kernels.tir import PASS_CONFIG
from bhpe_compile.kernels.transpose_channels import TransposeChannels
from bhpe_compile.kernels.written import CellMean, Logistic, RotationVector

__all__ = [
    "PASS_CONFIG",
    "BinaryConv2d",
    "BinaryConvTranspose2d",
    "CellMean",
    "ConvertFloats",
    "Crop",
    "DenseConv2d",
    "DenseConvTranspose2d",
    "DepthwiseConv2d",
    "Epilogue",
    "FixedPointLinear",
    "FixedPointSplit",
    "HeatMap",
    "Int8Conv2d",
    "Int8ConvTranspose2d",
    "Int8DepthwiseConv2d",
    "JoinChannels",
    "Kernel",
    "Levels",
    "Logistic",
    "MapMean",
    "MaxPool2d",
    "PackBits",
    "Parameter",
    "Quantize",
    "Residual",
    "RotationVector",
    "SamplePoints",
    "SoftArgmax",
    "TransposeChannels",
    "binary_linear",
]
