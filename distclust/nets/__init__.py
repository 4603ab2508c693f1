"""Networks by name: `build(name, in_shape, out_dim)` and the decoder that undoes one."""

from __future__ import annotations

from distclust.nets.scaling import Scaling
from distclust.nets.small import (
    ConvDecoder,
    ConvEncoder,
    MLPEncoder,
    WindowDecoder,
    WindowEncoder,
    build,
    build_decoder,
    encoder_names,
)

__all__ = [
    "ConvDecoder",
    "ConvEncoder",
    "MLPEncoder",
    "Scaling",
    "WindowDecoder",
    "WindowEncoder",
    "build",
    "build_decoder",
    "encoder_names",
]
