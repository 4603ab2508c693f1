"""Scaling of the input, fitted on the data and kept with the network."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

ScalingName = Literal["auto", "unit", "symmetric", "standard", "none"]
_BLOCK = 4096  # rows at a time, so that memory-mapped data is never loaded whole


class Scaling(nn.Module):
    """Map raw values to the range a network wants: (x - offset) * factor.

    Args:
        in_shape: shape of one data point: (C, H, W), (C, T) or (D,).

    Attributes:
        offset: (C, 1, 1), (C, 1) or (D,) float32.
        factor: the same shape.
    """

    offset: Tensor
    factor: Tensor

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__()
        shape = (in_shape[0],) + (1,) * (len(in_shape) - 1)
        self.register_buffer("offset", torch.zeros(shape))
        self.register_buffer("factor", torch.ones(shape))

    def fit(self, x: Tensor, how: ScalingName) -> Scaling:
        """Set offset and factor from the data.

        Args:
            x: (N, *in_shape), any real type.
            how: "unit" maps the least value of all to 0 and the greatest to 1; "symmetric" to -1 and 1; "standard"
                gives each channel (or each feature of a vector) mean 0 and standard deviation 1; "none" leaves the
                values; "auto" is "unit" for images and "standard" for the rest.
        """
        how = ("unit" if x.ndim == 4 else "standard") if how == "auto" else how
        if how in ("unit", "symmetric"):
            low = min(float(block.min()) for block in x.split(_BLOCK))
            high = max(float(block.max()) for block in x.split(_BLOCK))
            reach = (high - low) / (1 if how == "unit" else 2)
            self.offset.fill_(low if how == "unit" else (low + high) / 2)
            self.factor.fill_(1 / reach if reach > 0 else 1.0)
        elif how == "standard":
            mean, variance = _moments(x)
            self.offset.copy_(mean.reshape(self.offset.shape))
            spread = variance.sqrt()
            flat = spread <= 1e-12 * mean.abs().clamp(min=1.0)  # a constant channel: leave it at zero
            self.factor.copy_(torch.where(flat, 1.0, 1 / spread.clamp(min=1e-30)).reshape(self.factor.shape))
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled values, float32."""
        return (x.float() - self.offset) * self.factor


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each channel, (C,) float64 each, by pairwise merging of blocks (Chan et al.)."""
    axes = (0, *range(2, x.ndim))
    n, mean, squares = 0.0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for block in x.split(_BLOCK):
        values = block.double()
        m = values.numel() / values.shape[1]
        block_mean = values.mean(axes)
        block_squares = values.var(axes, unbiased=False) * m
        shift = block_mean - mean.to(block_mean.device)
        squares = squares.to(shift.device) + block_squares + shift**2 * (n * m / (n + m))
        mean = mean.to(shift.device) + shift * (m / (n + m))
        n += m
    return mean, squares / n
