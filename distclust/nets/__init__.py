"""Networks by name: `build(name, in_shape, out_dim)` and the decoder that undoes one."""

from __future__ import annotations

from distclust.nets.autoencoder import (
    Autoencoder,
    ImageDecoder,
    ImageEncoder,
    PseudoClassifier,
    SeriesEncoder,
    build_autoencoder,
    default_latent_dim,
)
from distclust.nets.resnet import ResNet, ResNet18, ResNet34, SmallResNet
from distclust.nets.scaling import ChosenScaling, Scaling, ScalingName, choose_scaling
from distclust.nets.small import (
    ConvDecoder,
    ConvEncoder,
    LinearEncoder,
    MLPEncoder,
    WindowDecoder,
    WindowEncoder,
    build,
    build_decoder,
    encoder_names,
)
from distclust.nets.vgg import VGG4

__all__ = [  # noqa: RUF022 - in plain order, capitals or not
    "Autoencoder",
    "ChosenScaling",
    "ConvDecoder",
    "ConvEncoder",
    "ImageDecoder",
    "ImageEncoder",
    "LinearEncoder",
    "MLPEncoder",
    "PseudoClassifier",
    "ResNet",
    "ResNet18",
    "ResNet34",
    "Scaling",
    "ScalingName",
    "SeriesEncoder",
    "SmallResNet",
    "VGG4",
    "WindowDecoder",
    "WindowEncoder",
    "build",
    "build_autoencoder",
    "build_decoder",
    "choose_scaling",
    "default_latent_dim",
    "encoder_names",
]
