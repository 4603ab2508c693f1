"""Scaling of the input, fitted on the data and kept with the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

ScalingName = Literal["auto", "unit", "symmetric", "standard", "none"]
_BLOCK = 4096  # rows at a time, so that memory-mapped data is never loaded whole
# A feature is constant if its values differ by no more than this many roundings of their size: one in float32, in which
# measurements may lie that close; more in float64, whose last digits no measurement reaches.
_ROUNDINGS = {torch.float32: 1, torch.float64: 4}


class Scaling(nn.Module):
    """Map raw values to the range a network needs: (x - offset) * factor in float64, rounded to float32 at the end.

    Units do not matter: x, x * s and x * s + t with s > 0 give the same values up to the last digit of float32, and the
    same bits where s is a power of two, as long as float64 holds x * s + t without loss. s and t may be different for
    each feature with "standard"; they are the same for all with "unit" and "symmetric".

    Args:
        in_shape: shape of one data point: (C, H, W), (C, T) or (D,).

    Attributes:
        offset: (C, 1, 1), (C, 1) or (D,) float64.
        residual: of the same shape; the part of the offset that is below its last digit, where values are large against
            their differences.
        factor: of the same shape; 0 where a feature is constant, or differs by rounding alone.
    """

    offset: Tensor
    residual: Tensor
    factor: Tensor

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__()
        shape = (in_shape[0],) + (1,) * (len(in_shape) - 1)
        self.register_buffer("offset", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("residual", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("factor", torch.ones(shape, dtype=torch.float64))

    def fit(self, x: Tensor, how: ScalingName) -> Scaling:
        """Set offset and factor from the data.

        Args:
            x: (N, *in_shape), any real type.
            how: "unit" maps the least value of all to 0 and the greatest to 1; "symmetric" to -1 and 1; "standard"
                gives each channel (or each feature of a vector) mean 0 and standard deviation 1; "none" leaves the
                values; "auto" is "unit" for images and "standard" for the rest.
        """
        how = ("unit" if x.ndim == 4 else "standard") if how == "auto" else how
        if how == "none":
            return self._set(torch.zeros(()), torch.zeros(()), torch.ones(()))
        low, high = _extent(x)  # (C,) each
        if how != "standard":
            low, high = low.min().expand_as(low), high.max().expand_as(high)
        reach = high - low
        if how == "standard":
            centre, width = _moments(x, low, reach)
        else:
            width = reach if how == "unit" else reach / 2
            centre = reach - width
        flat = reach <= _rounding(x.dtype) * torch.maximum(low.abs(), high.abs())
        factor = torch.where(flat, 0.0, (1 / width).clamp(max=torch.finfo(torch.float64).max))
        return self._set(low, centre, factor)

    def after(self, first: Scaling) -> Scaling:
        """Rewrite this scaling so that it can be applied to what another one made of the same raw values."""
        centre = (self.offset - first.offset) + (self.residual - first.residual)
        centre, factor = centre * first.factor, torch.where(first.factor > 0, self.factor / first.factor, 0.0)
        return self._set(torch.zeros(()), centre, factor)

    def takes_float32(self) -> bool:
        """Return whether raw values may be rounded to float32 first: it moves no scaled value by 1/1000."""
        sizes, factor = self.offset.abs() * self.factor, self.factor[self.factor > 0]
        return bool(sizes.max() < 1e4 and (factor < 1e36).all() and (factor > 1e-36).all())

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled values, float32."""
        return ((x.double() - self.offset - self.residual) * self.factor).float()

    def _set(self, base: Tensor, centre: Tensor, factor: Tensor) -> Scaling:
        """Take up the factor, and the offset base + centre in two parts that together are more exact than one."""
        base, centre = base.double().to(self.offset.device), centre.double().to(self.offset.device)
        offset = base + centre
        residual = (base - offset) + centre
        for buffer, value in ((self.offset, offset), (self.residual, residual), (self.factor, factor)):
            buffer.copy_(value.reshape(buffer.shape) if value.ndim else value)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state_dict.setdefault(prefix + "residual", torch.zeros_like(self.residual))  # older models have none
        super()._load_from_state_dict(state_dict, prefix, *rest)


def left_different(x: Tensor, how: ScalingName) -> tuple[Tensor, Tensor]:
    """Return how many different values each channel has, and how many of them scaling to float32 leaves, (C,) each.

    Args:
        x: (N, *in_shape), any real type.
        how: as in `Scaling.fit`.
    """
    found = Scaling(tuple(x.shape[1:])).fit(x, how)
    columns = x.double().transpose(0, 1).flatten(1).sort(1).values  # (C, n)
    offset, residual, factor = (part.reshape(-1, 1) for part in (found.offset, found.residual, found.factor))
    scaled = ((columns - offset - residual) * factor).float()
    before, after = ((values.diff(dim=1) != 0).sum(1) + 1 for values in (columns, scaled))
    return before, after


def _rounding(dtype: torch.dtype) -> float:
    """Return by how much values of size 1 may differ and still count as equal."""
    return _ROUNDINGS.get(dtype, 1) * torch.finfo(dtype).eps if dtype.is_floating_point else 0.0


def _blocks(x: Tensor) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
    """Yield some rows at a time, with the axes that are not the channel's."""
    axes = (0, *range(2, x.ndim))
    for block in x.split(_BLOCK):
        yield block, axes


def _extent(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the greatest value of each channel, (C,) float64 each."""
    lows, highs = zip(*((block.amin(axes), block.amax(axes)) for block, axes in _blocks(x)), strict=True)
    return torch.stack(lows).amin(0).double(), torch.stack(highs).amax(0).double()


def _moments(x: Tensor, low: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean above the least value and the standard deviation of each channel, (C,) float64 each.

    Blocks are merged pairwise (Chan et al.), in units of the channel's reach, so that no square is out of bounds.
    """
    unit = torch.where(reach > 0, reach, 1.0)
    shape = (-1, *(1,) * (x.ndim - 2))
    n, mean, squares = 0.0, torch.zeros_like(low), torch.zeros_like(low)
    for block, axes in _blocks(x):
        values = (block.double() - low.reshape(shape)) / unit.reshape(shape)
        m = values.numel() / values.shape[1]
        block_mean = values.mean(axes)
        shift = block_mean - mean
        squares = squares + values.var(axes, unbiased=False) * m + shift**2 * (n * m / (n + m))
        mean = mean + shift * (m / (n + m))
        n += m
    return mean * unit, (squares / n).sqrt() * unit
