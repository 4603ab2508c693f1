"""The small convolutional network of discriminative entropy clustering, trained from random weights."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from distclust.errors import DataError

_MIN_SIDE = 8  # pixels
_WIDTHS = (64, 128, 256, 512)


class VGG4(nn.Sequential):
    """Four stages of 5x5 convolution, batch norm, ReLU and 2x2 max-pool; the features are the flat last map.

    Channels C-64-128-256-512; a side halves, rounded down, until it is 1. So 32x32 images end in 512 x 2 x 2 features,
    images with sides of 8 to 31 pixels in 512. *Discriminative entropy clustering and its relation to K-means and SVM*,
    Section 4.3, names the network without its sizes; kernels and widths, and no biases before the batch norms, are
    those of the program of Ji, Henriques & Vedaldi, *Invariant Information Clustering*, ICCV 2019, which ends without
    the last pool.

    Args:
        in_shape: (C, H, W), sides of at least 8 pixels.

    Attributes:
        out_dim: number of features.

    Raises:
        DataError: the data are no such images.
    """

    out_dim: int

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        if len(in_shape) != 3 or min(in_shape[1:]) < _MIN_SIDE:
            raise DataError(
                f"network 'vgg4' got data points of shape {in_shape}; it takes images (channels, height, width) with "
                f"sides of at least {_MIN_SIDE} pixels. Use a network for the data's shape, or larger images."
            )
        channels, height, width = in_shape
        layers: list[nn.Module] = []
        for a, b in pairwise((channels, *_WIDTHS)):
            pool = (min(2, height), min(2, width))
            layers += [nn.Conv2d(a, b, 5, padding=2, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(pool)]
            height, width = height // pool[0], width // pool[1]
        super().__init__(*layers, nn.Flatten())
        self.out_dim = _WIDTHS[-1] * height * width
