"""Scaling of the input, fitted on the data and kept with the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

ScalingName = Literal["auto", "unit", "symmetric", "standard", "center", "length", "none"]
_BLOCK = 4096  # rows at a time, so that memory-mapped data is never loaded whole
# A feature is constant if its values differ by no more than this many roundings of their size: one in float32, in which
# measurements may lie that close; more in float64, whose last digits no measurement reaches.
_ROUNDINGS = {torch.float32: 1, torch.float64: 4}

# How "auto" recognizes vectors whose features share a unit; see `choose_scaling`.
_LOOKED_AT = 4096  # rows, evenly spaced
_COMPONENTS, _FEWEST_COMPONENTS, _ORTHOGONAL = 64, 4, 2e-3  # leading columns looked at, at least, cosine between them
_SAME_LENGTH = 0.05  # spread of the row lengths against that of a column
_MANY_FEATURES = 32
_ALIKE, _SHIFTED, _CENTERED = 30.0, 10.0, 1e-3  # spreads of the columns; their means against their spread
_DIRECTIONS = 0.35  # relative spread of the row lengths up to which they carry nothing


class ChosenScaling(NamedTuple):
    """A scaling of `Scaling.fit` and why it was chosen."""

    name: ScalingName
    reason: str


def choose_scaling(x: Tensor, how: ScalingName = "auto") -> ChosenScaling:
    """Return the scaling that `Scaling.fit` uses for `how`; "auto" is decided by the data alone.

    Images get "unit", windows "standard". Vectors get "standard", which treats every column as a unit of its own,
    unless the columns share a unit: then the distances between the rows mean something as they are, and a scale for
    each column would weigh noise as much as structure.

    - All rows have one length, as embeddings normalized to length 1, and the columns are of similar spread: "length".
    - The columns are orthogonal and their spread falls, as the scores of a singular value decomposition ("length") or
      of a principal component analysis, whose origin is the mean ("center").
    - There are at least 32 columns, of similar spread (the 90% quantile at most 30 times the 25% quantile) and with
      means of at most 10 times that, as features of a network or pixels: "length" if the lengths of the rows vary by at
      most 35% and the columns are not centered, else "center".

    Args:
        x: (N, *shape), any real type.
        how: a name other than "auto" is returned as it is.
    """
    if how != "auto":
        return ChosenScaling(how, "as given")
    if x.ndim == 4:
        return ChosenScaling("unit", "images")
    if x.ndim != 2:
        return ChosenScaling("standard", "channels may be in different units")
    rows = x[:: max(1, -(-len(x) // _LOOKED_AT))].double()
    size = rows.abs().amax()
    rows = rows / size if size > 0 else rows
    spread, lengths = rows.std(0, unbiased=False), rows.norm(dim=1)
    varying = spread > _rounding(x.dtype) * rows.abs().amax(0)
    if int(varying.sum()) < _FEWEST_COMPONENTS:
        return ChosenScaling("standard", "few features, which may be in different units")
    means, spread = rows.mean(0)[varying].abs(), spread[varying]
    typical = spread.square().mean().sqrt()
    low, high = torch.quantile(spread, torch.tensor([0.25, 0.9], dtype=spread.dtype, device=spread.device)).tolist()
    if high <= _ALIKE * low and lengths.std(unbiased=False) <= _SAME_LENGTH * typical:
        return ChosenScaling("length", "all rows have the same length")
    if _orthogonal(x, centered=True):
        return ChosenScaling("center", "the columns are principal component scores")
    if _orthogonal(x, centered=False):
        return ChosenScaling("length", "the columns are scores of a singular value decomposition")
    alike = high <= _ALIKE * low and float(torch.quantile(means, 0.9)) <= _SHIFTED * float(typical)
    if len(spread) < _MANY_FEATURES or not alike:
        return ChosenScaling("standard", "features may be in different units")
    centered = float((means > _CENTERED * spread).double().mean()) <= 0.1
    if not centered and lengths.std(unbiased=False) <= _DIRECTIONS * lengths.mean():
        return ChosenScaling("length", "many features in one unit, rows of similar length")
    return ChosenScaling("center", "many features in one unit")


def _orthogonal(x: Tensor, *, centered: bool) -> bool:
    """Return whether the leading columns (of mean 0, if `centered`) are orthogonal and of falling size."""
    leading = x[:, :_COMPONENTS]
    sums = torch.zeros(leading.shape[1], dtype=torch.float64, device=x.device)
    products = torch.zeros(len(sums), len(sums), dtype=torch.float64, device=x.device)
    size = max(float(block.abs().amax()) for block in leading.split(_BLOCK))
    for block in leading.split(_BLOCK):
        values = block.double() / size if size > 0 else block.double()
        sums += values.sum(0)
        products += values.T @ values
    squares = products.diagonal()
    used = squares > 0
    if int(used.sum()) < _FEWEST_COMPONENTS:
        return False
    sizes = squares[used].sqrt()
    cosines = products[used][:, used] / torch.outer(sizes, sizes)
    off = cosines - torch.eye(len(sizes), dtype=cosines.dtype, device=cosines.device)
    falling = bool((sizes[1:] <= sizes[:-1] * (1 + _ORTHOGONAL)).all() and sizes[-1] < sizes[0] / 1.2)
    at_zero = bool((sums[used].abs() <= _CENTERED * sizes * len(x) ** 0.5).all())
    return falling and float(off.square().mean().sqrt()) <= _ORTHOGONAL and (at_zero or not centered)


class Scaling(nn.Module):
    """Map raw values to the range a network needs: (x - offset) * factor in float64, rounded to float32 at the end.

    With "length" each data point is divided by its Euclidean length before that.

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
        length: () bool, whether data points are brought to length 1 first.
    """

    length: Tensor
    offset: Tensor
    residual: Tensor
    factor: Tensor

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__()
        shape = (in_shape[0],) + (1,) * (len(in_shape) - 1)
        self.register_buffer("offset", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("residual", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("factor", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("length", torch.zeros((), dtype=torch.bool))
        self._to_length_1 = False  # the same, known without asking the device, and to torch.export

    def fit(self, x: Tensor, how: ScalingName) -> Scaling:
        """Set offset and factor from the data.

        Args:
            x: (N, *in_shape), any real type.
            how: "unit" maps the least value of all to 0 and the greatest to 1; "symmetric" to -1 and 1; "standard"
                gives each channel (or each feature of a vector) mean 0 and standard deviation 1; "center" gives each
                mean 0 and all of them one factor, with which the mean variance is 1; "length" brings each data point
                to length 1 and then does the same; "none" leaves the values; "auto" see `choose_scaling`.
        """
        how = choose_scaling(x, how).name
        self._to_length_1 = how == "length"
        self.length.fill_(self._to_length_1)
        if how == "none":
            return self._set(torch.zeros(()), torch.zeros(()), torch.ones(()))
        length = how == "length"
        low, high = _extent(x, length)  # (C,) each
        if how in ("unit", "symmetric"):
            low, high = low.min().expand_as(low), high.max().expand_as(high)
        reach = high - low
        if how in ("standard", "center", "length"):
            centre, width = _moments(x, low, reach, length)
            if how != "standard":
                largest = width.max()
                common = (width / largest).square().mean().sqrt() * largest if largest > 0 else largest
                width = common.expand_as(width)
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
        values = of_length_1(x) if self._to_length_1 else x.double()
        return ((values - self.offset - self.residual) * self.factor).float()

    def _set(self, base: Tensor, centre: Tensor, factor: Tensor) -> Scaling:
        """Take up the factor, and the offset base + centre in two parts that together are more exact than one."""
        base, centre = base.double().to(self.offset.device), centre.double().to(self.offset.device)
        offset = base + centre
        residual = (base - offset) + centre
        for buffer, value in ((self.offset, offset), (self.residual, residual), (self.factor, factor)):
            buffer.copy_(value.reshape(buffer.shape) if value.ndim else value)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("residual", "length"):  # older models have none
            state_dict.setdefault(prefix + name, torch.zeros_like(getattr(self, name)))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._to_length_1 = bool(state_dict[prefix + "length"])


def left_different(x: Tensor, how: ScalingName) -> tuple[Tensor, Tensor]:
    """Return how many different values each channel has, and how many of them scaling to float32 leaves, (C,) each.

    Args:
        x: (N, *in_shape), any real type.
        how: as in `Scaling.fit`.
    """
    found = Scaling(tuple(x.shape[1:])).fit(x, how)
    values = of_length_1(x) if found.length else x.double()
    columns = values.transpose(0, 1).flatten(1).sort(1).values  # (C, n)
    offset, residual, factor = (part.reshape(-1, 1) for part in (found.offset, found.residual, found.factor))
    scaled = ((columns - offset - residual) * factor).float()
    before, after = ((sorted_.diff(dim=1) != 0).sum(1) + 1 for sorted_ in (columns, scaled))
    return before, after


def of_length_1(x: Tensor) -> Tensor:
    """Return data points (N, ...) divided by their Euclidean length, float64; zeros stay zeros."""
    values = x.double()
    axes = tuple(range(1, x.ndim))
    size = values.abs().amax(axes, keepdim=True)  # so that no square is out of bounds
    values = values / torch.where(size > 0, size, 1.0)
    length = values.square().sum(axes, keepdim=True).sqrt()
    return values / torch.where(length > 0, length, 1.0)


def _rounding(dtype: torch.dtype) -> float:
    """Return by how much values of size 1 may differ and still count as equal."""
    return _ROUNDINGS.get(dtype, 1) * torch.finfo(dtype).eps if dtype.is_floating_point else 0.0


def _blocks(x: Tensor, length: bool) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
    """Yield some rows at a time, brought to length 1 if asked for, with the axes that are not the channel's."""
    axes = (0, *range(2, x.ndim))
    for block in x.split(_BLOCK):
        yield of_length_1(block) if length else block, axes


def _extent(x: Tensor, length: bool = False) -> tuple[Tensor, Tensor]:
    """Return the least and the greatest value of each channel, (C,) float64 each."""
    lows, highs = zip(*((block.amin(axes), block.amax(axes)) for block, axes in _blocks(x, length)), strict=True)
    return torch.stack(lows).amin(0).double(), torch.stack(highs).amax(0).double()


def _moments(x: Tensor, low: Tensor, reach: Tensor, length: bool = False) -> tuple[Tensor, Tensor]:
    """Return the mean above the least value and the standard deviation of each channel, (C,) float64 each.

    Blocks are merged pairwise (Chan et al.), in units of the channel's reach, so that no square is out of bounds.
    """
    unit = torch.where(reach > 0, reach, 1.0)
    shape = (-1, *(1,) * (x.ndim - 2))
    n, mean, squares = 0.0, torch.zeros_like(low), torch.zeros_like(low)
    for block, axes in _blocks(x, length):
        values = (block.double() - low.reshape(shape)) / unit.reshape(shape)
        m = values.numel() / values.shape[1]
        block_mean = values.mean(axes)
        shift = block_mean - mean
        squares = squares + values.var(axes, unbiased=False) * m + shift**2 * (n * m / (n + m))
        mean = mean + shift * (m / (n + m))
        n += m
    return mean * unit, (squares / n).sqrt() * unit
