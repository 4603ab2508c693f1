"""Autoencoders for images, vectors and windows, and the pseudo-classifier that sits on their latents.

Mahon & Lukasiewicz, *Selective Pseudo-Label Clustering*, KI 2021, Section 3.2, with the widths of the authors' program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from distclust.errors import DataError, UnknownNameError
from distclust.nets.small import LinearDecoder, LinearEncoder, MLPDecoder, MLPEncoder, WindowDecoder

_SLOPE = 0.3  # of the leaky ReLU
_MIN_SIDE, _MAX_SIDE = 8, 128  # pixels
_GRID = 8  # side of the feature map between the two stages of the image encoder
_MIN_TIME = 16
_MIN_CONVOLVED = 12  # pixels, below which "auto" takes the MLP
_SMALL_SIDE = 16  # pixels, up to which images count as small
_LATENT_DIM, _SMALL_LATENT_DIM = 50, 20


class Autoencoder(nn.Module):
    """An encoder and the decoder that undoes it.

    Args:
        encoder: (N, *in_shape) -> (N, D).
        decoder: (N, D) -> (N, *in_shape).
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstruction of x."""
        return self.decoder(self.encoder(x))

    def start_at_components(self, x: Tensor, seed: int) -> None:
        """Set a "linear" autoencoder to the principal components of x, the best that a linear one can come to.

        Args:
            x: (N, D).
            seed: see `LinearEncoder.start_at_components`.
        """
        assert isinstance(self.encoder, LinearEncoder)
        assert isinstance(self.decoder, LinearDecoder)
        self.encoder.start_at_components(x, seed)
        back, layer = self.decoder[0], self.encoder[1]
        assert isinstance(back, nn.Linear)
        assert isinstance(layer, nn.Linear)
        squares = layer.weight.double().square().sum(1).max().clamp(min=1e-30)  # of the rows that are not zero
        with torch.no_grad():
            back.weight.copy_((layer.weight.T.double() / squares).to(back.weight))
            back.bias.copy_(x.double().mean(0).to(back.bias))


def build_autoencoder(name: str, in_shape: tuple[int, ...], latent_dim: int) -> Autoencoder:
    """Return a new autoencoder.

    Args:
        name: "conv" for images, "mlp" or "linear" for vectors, "window" for sensor windows; "auto" chooses by the
            data's shape, and "mlp" for images with a side below 12 pixels, as `nets.build` does.
        in_shape: shape of one data point: (C, H, W) with sides of 8 to 128 pixels, (C, T) with T >= 16, or (D,).
        latent_dim: dimension of the latents, >= 1.

    Returns:
        A module with `encoder` and `decoder`. Its weights come from torch's global stream. The convolutional decoder
        ends in tanh, so images are to be scaled to -1 .. 1.

    Raises:
        UnknownNameError: no such network.
        DataError: the network cannot take data of this shape.
    """
    name = _by_shape(in_shape) if name == "auto" else name
    if name not in _AUTOENCODERS:
        raise UnknownNameError("autoencoder", name, ["auto", *_AUTOENCODERS])
    encoder, decoder = _AUTOENCODERS[name]
    return Autoencoder(encoder(in_shape, latent_dim), decoder(in_shape, latent_dim))


def default_latent_dim(in_shape: tuple[int, ...]) -> int:
    """Return 20 for images of up to 16 x 16 pixels and for vectors and windows of up to 256 values, else 50."""
    return _SMALL_LATENT_DIM if math.prod(in_shape[-2:]) <= _SMALL_SIDE**2 else _LATENT_DIM


class PseudoClassifier(nn.Sequential):
    """The pseudo-classifier h of eq. (2): one hidden layer of 25.

    Args:
        latent_dim: dimension of the latents.
        n_clusters: number of logits that come out.
    """

    def __init__(self, latent_dim: int, n_clusters: int) -> None:
        super().__init__(nn.Linear(latent_dim, 25), nn.LeakyReLU(_SLOPE), nn.Linear(25, n_clusters))


class ImageEncoder(nn.Sequential):
    """Two stages of 3x3 convolutions with leaky ReLU and batch norm, max-pooled to an 8x8 grid and to a point.

    Channels C-4-8-16-32-64, then 64-128-256-latent; the first convolution of either stage has stride 2. For images
    with a side below 16 pixels the grid is no finer than the map.

    Args:
        in_shape: (C, H, W), sides of 8 to 128 pixels.
        latent_dim: dimension of the latents.
    """

    def __init__(self, in_shape: tuple[int, ...], latent_dim: int) -> None:
        channels, *sides = _image_shape(in_shape)
        grid = (min(_GRID, math.ceil(sides[0] / 2)), min(_GRID, math.ceil(sides[1] / 2)))
        super().__init__(
            *_convolutions([channels, 4, 8, 16, 32, 64]),
            nn.AdaptiveMaxPool2d(grid),
            *_convolutions([64, 128, 256, latent_dim]),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )


class ImageDecoder(nn.Sequential):
    """Transposed convolutions latent-256-128-64-32-C with leaky ReLU and batch norm between and tanh at the end.

    The first spans the whole of the coarsest map. Each other one doubles the sides, with a kernel of 4, or of 3 where
    the side that comes out is odd; for sides of 16 and less the first of them leave a side of 2 as it is, with a kernel
    of 3. So 28x28 images go by maps of 2, 4, 7, 14, 28.

    Args:
        in_shape: (C, H, W) of the images to give back.
        latent_dim: dimension of the latents that come in.
    """

    def __init__(self, in_shape: tuple[int, ...], latent_dim: int) -> None:
        channels, *sides = _image_shape(in_shape)
        maps = [(sides[0], sides[1])]
        for _ in range(4):
            maps.insert(0, (_half(maps[0][0]), _half(maps[0][1])))
        layers: list[nn.Module] = [
            nn.Unflatten(1, (latent_dim, 1, 1)),
            nn.ConvTranspose2d(latent_dim, 256, maps[0]),
        ]
        for (a, b), (before, after) in zip(pairwise((256, 128, 64, 32, channels)), pairwise(maps), strict=True):
            stride = (2 if after[0] > before[0] else 1, 2 if after[1] > before[1] else 1)
            kernel = (_kernel(after[0], stride[0]), _kernel(after[1], stride[1]))
            layers += [nn.LeakyReLU(_SLOPE), nn.BatchNorm2d(a), nn.ConvTranspose2d(a, b, kernel, stride, padding=1)]
        super().__init__(*layers, nn.Tanh())


class SeriesEncoder(nn.Sequential):
    """1-D convolutions along time, all channels at once, max-pooled to a point.

    Channels C-32-64-128-latent with kernels of 5 at stride 2, each with leaky ReLU and batch norm.

    Args:
        in_shape: (C, T): C channels, windows of T >= 16 steps.
        latent_dim: dimension of the latents.
    """

    def __init__(self, in_shape: tuple[int, ...], latent_dim: int) -> None:
        layers: list[nn.Module] = []
        for a, b in pairwise((_window_channels(in_shape), 32, 64, 128, latent_dim)):
            layers += [nn.Conv1d(a, b, 5, stride=2, padding=2), nn.LeakyReLU(_SLOPE), nn.BatchNorm1d(b)]
        super().__init__(*layers, nn.AdaptiveMaxPool1d(1), nn.Flatten())


def _convolutions(channels: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for index, (a, b) in enumerate(pairwise(channels)):
        convolution = nn.Conv2d(a, b, 3, stride=1 if index else 2, padding=1)
        layers += [convolution, nn.LeakyReLU(_SLOPE), nn.BatchNorm2d(b)]
    return layers


def _half(side: int) -> int:
    return max(2, math.ceil(side / 2))  # on a map of one pixel most of a kernel would never be used


def _kernel(side: int, stride: int) -> int:
    """Return the kernel of a transposed convolution with padding 1 that gives `side`."""
    return 3 if stride == 1 else 4 - side % 2


def _by_shape(in_shape: tuple[int, ...]) -> str:
    names = {3: "conv", 2: "window", 1: "mlp"}
    if len(in_shape) not in names:
        raise DataError(
            f"data points of shape {in_shape} are neither images (C, H, W) nor windows (C, T) nor vectors (D,). "
            f"Reshape the data."
        )
    return "mlp" if len(in_shape) == 3 and min(in_shape[1:]) < _MIN_CONVOLVED else names[len(in_shape)]


def _image_shape(in_shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(in_shape) != 3 or not _MIN_SIDE <= min(in_shape[1:]) <= max(in_shape[1:]) <= _MAX_SIDE:
        raise DataError(
            f"autoencoder 'conv' got data points of shape {in_shape}; it takes images (channels, height, width) with "
            f"sides of {_MIN_SIDE} to {_MAX_SIDE} pixels. Resize the images, or use encoder='mlp'."
        )
    return in_shape[0], in_shape[1], in_shape[2]


def _window_channels(in_shape: tuple[int, ...]) -> int:
    if len(in_shape) != 2 or in_shape[1] < _MIN_TIME:
        raise DataError(
            f"autoencoder 'window' got data points of shape {in_shape}; it takes windows (channels, time) of at least "
            f"{_MIN_TIME} steps. Use encoder='mlp', or longer windows."
        )
    return in_shape[0]


_Builder = Callable[[tuple[int, ...], int], nn.Module]
_AUTOENCODERS: dict[str, tuple[_Builder, _Builder]] = {
    "conv": (ImageEncoder, ImageDecoder),
    "mlp": (MLPEncoder, MLPDecoder),
    "linear": (LinearEncoder, LinearDecoder),
    "window": (SeriesEncoder, WindowDecoder),
}
