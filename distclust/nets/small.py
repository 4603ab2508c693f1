"""Small networks: the encoder of combination assignment for images, an MLP for vectors, a stack for sensor windows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from distclust.errors import DataError, UnknownNameError

_MIN_SIDE = 8  # pixels
_MIN_CONVOLVED = 12  # pixels, below which "auto" takes the MLP


def build(name: str, in_shape: tuple[int, ...], out_dim: int) -> nn.Module:
    """Return a new network.

    Args:
        name: "conv" for images, "mlp" or "linear" for vectors, "window" for sensor windows; "auto" chooses by the
            data's shape, and "mlp" for images with a side below 12 pixels, where two convolutions leave too little.
        in_shape: shape of one data point: (C, H, W), (C, T) or (D,).
        out_dim: dimension of the output, >= 1.

    Returns:
        A module that maps (N, *in_shape) float32 to (N, out_dim). Its weights come from torch's global stream.

    Raises:
        UnknownNameError: no such network.
        DataError: the network cannot take data of this shape.
    """
    return _ENCODERS[_chosen(name, in_shape)](in_shape, out_dim)


def build_decoder(name: str, in_shape: tuple[int, ...], out_dim: int) -> nn.Module:
    """Return the decoder for `build(name, in_shape, out_dim)`: it maps (N, out_dim) to (N, *in_shape)."""
    return _DECODERS[_chosen(name, in_shape)](in_shape, out_dim)


def encoder_names() -> list[str]:
    """Return the names that `build` knows."""
    return ["auto", *_ENCODERS]


class ConvEncoder(nn.Sequential):
    """The encoder of combination assignment: two convolutions and a linear layer (CA, Section 4).

    conv(5x5, 6) - batch norm - ReLU - max-pool - conv(5x5, 16) - batch norm - ReLU - max-pool - linear, as the
    authors' program has it. Along a side that has become shorter than 12 the kernel is 3, shorter than 6 it is 2; a
    pool that would leave a single value is left out. So 28x28 images meet the paper's network exactly.

    Args:
        in_shape: (C, H, W), sides of at least 8 pixels.
        out_dim: dimension of the latents (the paper's 128).
    """

    def __init__(self, in_shape: tuple[int, ...], out_dim: int) -> None:
        channels, *sides = _image_shape(in_shape)
        layers: list[nn.Module] = []
        for width in (6, 16):
            kernel, pool, sides = _stage(sides)
            layers += [nn.Conv2d(channels, width, kernel), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(pool)]
            channels = width
        super().__init__(*layers, nn.Flatten(), nn.Linear(channels * sides[0] * sides[1], out_dim))


class ConvDecoder(nn.Sequential):
    """The mirror image of `ConvEncoder`: a linear layer, then twice upsampling and transposed convolution.

    Args:
        in_shape: (C, H, W) of the images to give back.
        out_dim: dimension of the latents that come in.
    """

    def __init__(self, in_shape: tuple[int, ...], out_dim: int) -> None:
        channels, *sides = _image_shape(in_shape)
        first_kernel, _, half = _stage(sides)
        second_kernel, _, quarter = _stage(half)
        before_first = [s - k + 1 for s, k in zip(sides, first_kernel, strict=True)]
        before_second = [s - k + 1 for s, k in zip(half, second_kernel, strict=True)]
        super().__init__(
            nn.Linear(out_dim, 16 * quarter[0] * quarter[1]),
            nn.Unflatten(1, (16, *quarter)),
            nn.Upsample(size=tuple(before_second)),
            nn.ConvTranspose2d(16, 6, second_kernel),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Upsample(size=tuple(before_first)),
            nn.ConvTranspose2d(6, channels, first_kernel),
        )


class MLPEncoder(nn.Sequential):
    """Two hidden layers of 512 and 256 with batch norm and ReLU, for vectors.

    Args:
        in_shape: (D,); other shapes are flattened first.
        out_dim: dimension of the output.
    """

    def __init__(self, in_shape: tuple[int, ...], out_dim: int) -> None:
        widths = (_size(in_shape), 512, 256)
        layers: list[nn.Module] = [nn.Flatten()]
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()]
        super().__init__(*layers, nn.Linear(widths[-1], out_dim))


class LinearEncoder(nn.Sequential):
    """One linear layer, which can start as a rotation of the data, see `start_at_components`; arguments as above."""

    def __init__(self, in_shape: tuple[int, ...], out_dim: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(_size(in_shape), out_dim))

    def start_at_components(self, x: Tensor, seed: int) -> None:
        """Set the layer to the leading principal components of x, its outputs' mean squared length to their number.

        Distances between the points are kept but for one factor and the components left out.

        Args:
            x: (N, *in_shape), as the layer will get it; of fewer components than outputs the rest are 0.
            seed: 0 .. 2**32 - 1, of the randomized solver.
        """
        from sklearn.decomposition import PCA

        layer = self[1]
        assert isinstance(layer, nn.Linear)
        points = x.flatten(1).double().cpu().numpy()
        most = min(points.shape)
        n_components = min(layer.out_features, most)
        solver = "randomized" if n_components < most // 2 else "full"
        found = PCA(n_components, svd_solver=solver, random_state=seed).fit(points)
        energy = float(found.explained_variance_.sum())
        factor = (layer.out_features / energy) ** 0.5 if energy > 0 else 0.0
        weight = torch.from_numpy(found.components_ * factor)
        with torch.no_grad():
            layer.weight.zero_()
            layer.weight[:n_components] = weight.to(layer.weight)
            layer.bias.copy_(-(layer.weight @ torch.from_numpy(found.mean_).to(layer.weight)))


class MLPDecoder(nn.Sequential):
    """The mirror image of `MLPEncoder`; arguments as there."""

    def __init__(self, in_shape: tuple[int, ...], out_dim: int) -> None:
        widths = (out_dim, 256, 512)
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()]
        super().__init__(*layers, nn.Linear(widths[-1], _size(in_shape)), nn.Unflatten(1, in_shape))


class LinearDecoder(nn.Sequential):
    """One linear layer back; arguments as above."""

    def __init__(self, in_shape: tuple[int, ...], out_dim: int) -> None:
        super().__init__(nn.Linear(out_dim, _size(in_shape)), nn.Unflatten(1, in_shape))


_TIME_KERNELS = (50, 40, 7, 4)
_TIME_STRIDES = (2, 2, 1, 1)
_TIME_POOLS = (2, 2, 2, 2)
_MIN_TIME = 16


class WindowEncoder(nn.Module):
    """The stack of the authors' program for RealDisp: convolutions over (time, sensors), the last across all sensors.

    Four layers of 4, 8, 16 and 32 channels with time kernels 50, 40, 7, 4, strides 2, 2, 1, 1 and pools of 2 along
    time; the sensors are kept apart until the last kernel spans them all; then a linear layer to `out_dim`. Windows of
    512 meet these sizes exactly; on shorter ones the kernels shrink with the window.

    Args:
        in_shape: (C, T): C sensor values, windows of T steps, T >= 16.
        out_dim: dimension of the latents.
    """

    def __init__(self, in_shape: tuple[int, ...], out_dim: int) -> None:
        super().__init__()
        sensors, time = _window_shape(in_shape)
        layers: list[nn.Module] = []
        channels = 1
        plan = _time_plan(time)
        for i, (kernel, stride, pool, _) in enumerate(plan):
            last = i == len(plan) - 1
            width = 4 * 2**i
            layers.append(nn.Conv2d(channels, width, (kernel, sensors if last else 1), (stride, 1)))
            if not last:  # as in the authors' program
                layers.append(nn.BatchNorm2d(width))
            layers += [nn.LeakyReLU(0.3), nn.MaxPool2d((pool, 1))]
            channels = width
        self.stack = nn.Sequential(*layers)
        self.head = nn.Linear(channels * plan[-1][-1], out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T) to (N, out_dim)."""
        images = x.transpose(1, 2).unsqueeze(1)  # (N, 1, T, C)
        return self.head(self.stack(images).flatten(1))


class WindowDecoder(nn.Sequential):
    """A linear layer, two 1-D transposed convolutions, upsampling and a convolution that give back a window.

    Args:
        in_shape: (C, T) of the windows to give back.
        out_dim: dimension of the latents that come in.
    """

    def __init__(self, in_shape: tuple[int, ...], out_dim: int) -> None:
        sensors, time = _window_shape(in_shape)
        start = -(-time // 8)
        layers: list[nn.Module] = [nn.Linear(out_dim, 64 * start), nn.Unflatten(1, (64, start))]
        for a, b in pairwise((64, 32, 16)):
            layers += [nn.ConvTranspose1d(a, b, 4, stride=2, padding=1), nn.BatchNorm1d(b), nn.LeakyReLU(0.3)]
        layers += [nn.Upsample(size=time), nn.Conv1d(16, sensors, 3, padding=1)]
        super().__init__(*layers)


def _chosen(name: str, in_shape: tuple[int, ...]) -> str:
    if name == "auto":
        if not 1 <= len(in_shape) <= 3:
            raise DataError(
                f"data points of shape {in_shape} are neither images (C, H, W) nor windows (C, T) nor vectors (D,). "
                f"Reshape the data."
            )
        name = {3: "conv", 2: "window", 1: "mlp"}[len(in_shape)]
        return "mlp" if name == "conv" and min(in_shape[1:]) < _MIN_CONVOLVED else name
    if name not in _ENCODERS:
        raise UnknownNameError("network", name, ["auto", *_ENCODERS])
    return name


def _stage(sides: list[int]) -> tuple[tuple[int, int], tuple[int, int], list[int]]:
    """Return kernel and pool of a stage for sides (H, W), and the sides that are left."""
    kernel = tuple(5 if s >= 12 else 3 if s >= 6 else 2 for s in sides)
    after = [s - k + 1 for s, k in zip(sides, kernel, strict=True)]
    pool = tuple(2 if s >= 4 else 1 for s in after)
    return (kernel[0], kernel[1]), (pool[0], pool[1]), [s // p for s, p in zip(after, pool, strict=True)]


def _time_plan(time: int) -> list[tuple[int, int, int, int]]:
    """Return (kernel, stride, pool, steps left) of each layer of `WindowEncoder`."""
    plan = []
    shrink = min(1.0, time / 512)
    for kernel, stride, pool in zip(_TIME_KERNELS, _TIME_STRIDES, _TIME_POOLS, strict=True):
        kernel = min(time, max(2, round(kernel * shrink)))
        time = (time - kernel) // stride + 1
        pool = pool if time >= pool else 1
        time //= pool
        plan.append((kernel, stride, pool, time))
    return plan


def _image_shape(in_shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(in_shape) != 3 or min(in_shape[1:]) < _MIN_SIDE:
        raise DataError(
            f"network 'conv' got data points of shape {in_shape}; it takes images (channels, height, width) with sides "
            f"of at least {_MIN_SIDE} pixels. Use encoder='mlp', or larger images."
        )
    return in_shape[0], in_shape[1], in_shape[2]


def _window_shape(in_shape: tuple[int, ...]) -> tuple[int, int]:
    if len(in_shape) != 2 or in_shape[1] < _MIN_TIME:
        raise DataError(
            f"network 'window' got data points of shape {in_shape}; it takes windows (channels, time) of at least "
            f"{_MIN_TIME} steps. Use encoder='mlp', or longer windows."
        )
    return in_shape[0], in_shape[1]


def _size(in_shape: tuple[int, ...]) -> int:
    size = 1
    for side in in_shape:
        size *= side
    return size


_ENCODERS: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {
    "conv": ConvEncoder,
    "mlp": MLPEncoder,
    "linear": LinearEncoder,
    "window": WindowEncoder,
}
_DECODERS: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {
    "conv": ConvDecoder,
    "mlp": MLPDecoder,
    "linear": MLPDecoder,
    "window": WindowDecoder,
}
