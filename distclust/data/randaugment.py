"""RandAugment (Cubuk et al. 2020) of a whole batch on its own device: every image draws its own operations.

Operations and ranges are those of the public code of SCAN (Van Gansbeke et al. 2020), which hands uint8 images to PIL.
Here images are (B, C, H, W) float32 in 0..1, C = 1 or 3, and are not rounded between two operations. Equalising and
posterising take the nearest of 256 levels, so on images of whole levels every operation does what PIL's does, up to
PIL's own rounding. Nothing waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

_SLANTS = (-0.1, 0.1)  # pixels a pixel, or sides of the image; SCAN draws their signs once more, to the same effect
_FACTORS = (0.05, 0.95)  # 1 changes nothing
OPERATIONS: dict[str, tuple[float, float]] = {  # name -> least and greatest magnitude
    "rotate": (-30.0, 30.0),  # degrees
    "shear_x": _SLANTS,
    "shear_y": _SLANTS,
    "translate_x": _SLANTS,
    "translate_y": _SLANTS,
    "brightness": _FACTORS,
    "colour": _FACTORS,
    "contrast": _FACTORS,
    "sharpness": _FACTORS,
    "autocontrast": (0.0, 0.0),  # no magnitude
    "equalize": (0.0, 0.0),
    "posterize": (4.0, 8.0),  # bits that stay, cut to a whole number: 4, 5, 6 or 7
    "solarize": (0.0, 256.0),  # levels of brightness
    "identity": (0.0, 0.0),
}
_MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_BLENDS = ("brightness", "colour", "contrast", "sharpness")
_LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue, as in torchvision


class Draw(NamedTuple):
    """What the images of a batch have drawn.

    Args:
        operations: (n_operations, B) int64, indices into `OPERATIONS`, in the order in which they are applied.
        shares: (n_operations, B) float32 in 0..1, how far the magnitude lies from the least to the greatest.
    """

    operations: Tensor
    shares: Tensor


def draw(n_images: int, n_operations: int, noise: torch.Generator) -> Draw:
    """Return operations and magnitudes, uniform and with replacement.

    Args:
        n_images: B, >= 1.
        n_operations: of each image, >= 0.
        noise: on the device of the images.
    """
    size, device = (n_operations, n_images), noise.device
    operations = torch.randint(len(OPERATIONS), size, generator=noise, device=device)
    return Draw(operations, torch.rand(size, generator=noise, device=device))


def augmented(images: Tensor, drawn: Draw) -> Tensor:
    """Return images after the operations that each of them has drawn.

    Args:
        images: (B, C, H, W) float32 in 0..1, C = 1 or 3.
        drawn: by these images.
    """
    images = images.clone(memory_format=torch.contiguous_format)
    change = _change_chosen if images.is_cpu else _change_all
    drew = {name: drawn.operations == index for index, name in enumerate(OPERATIONS)}  # (n_operations, B) each
    moves, blends = (torch.stack([drew[name] for name in names]).any(0) for names in (_MOVES, _BLENDS))
    matrices = _matrices(drew, drawn.shares, *images.shape[2:])
    factors = _between(_FACTORS, drawn.shares)
    bits = _between(OPERATIONS["posterize"], drawn.shares).int()
    thresholds = _between(OPERATIONS["solarize"], drawn.shares) / 255
    for i in range(len(drawn.operations)):  # an image is changed in one line or in none
        origins = (drew["colour"][i], drew["contrast"][i], drew["sharpness"][i])
        images = change(images, moves[i], moved, matrices[i])
        images = change(images, blends[i], _blended, factors[i], *origins)
        images = change(images, drew["autocontrast"][i], autocontrasted)
        images = change(images, drew["equalize"][i], equalized)
        images = change(images, drew["posterize"][i], posterized, bits[i])
        images = change(images, drew["solarize"][i], solarized, thresholds[i])
    return images


def moved(images: Tensor, matrices: Tensor) -> Tensor:
    """Return images whose pixels come from elsewhere, each the nearest; what comes in from outside is 0.

    Args:
        images: (B, C, H, W).
        matrices: (B, 3, 2); a pixel (x, y), -1..1 from edge to edge, comes from x m[0] + y m[1] + m[2].
    """
    across, down, constant = matrices[:, :, None, None].unbind(1)  # (B, 1, 1, 2)
    x, y = (torch.linspace(1 / side - 1, 1 - 1 / side, side, device=images.device) for side in images.shape[:1:-1])
    grid = torch.addcmul(constant, down, y[:, None, None])  # (B, H, 1, 2)
    grid = torch.addcmul(grid, across, x[:, None])  # (B, H, W, 2)
    return grid_sample(images, grid, mode="nearest", align_corners=False)


def autocontrasted(images: Tensor) -> Tensor:
    """Return images whose channels reach from 0 to 1; one of a single value stays as it is.

    Args:
        images: (B, C, H, W).
    """
    least, greatest = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = greatest == least  # (B, C, 1, 1)
    least, reach = least.masked_fill(flat, 0.0), (greatest - least).masked_fill(flat, 1.0)
    return ((images - least) / reach).clamp_(0, 1)


def equalized(images: Tensor) -> Tensor:
    """Return images whose channels use the levels of brightness equally often, by PIL's arithmetic on 256 levels.

    A channel stays as it is where it has fewer than 255 pixels below its brightest level.

    Args:
        images: (B, C, H, W).
    """
    levels = _levels(images).flatten(2)  # (B, C, HW)
    n_pixels = levels.shape[2]
    counts = torch.zeros(*levels.shape[:2], 256, dtype=torch.int32, device=images.device)
    counts.scatter_add_(2, levels, torch.ones_like(counts[:1, :1, :1]).expand_as(levels))
    darker = counts.cumsum(2, dtype=torch.int32) - counts  # pixels below each level
    step = (n_pixels - counts.gather(2, levels.amax(2, keepdim=True))) // 255  # (B, C, 1)
    table = ((darker + step // 2) // step.clamp(min=1)).clamp_(max=255)
    found = table.gather(2, levels).view_as(images) / 255
    return torch.where(step[..., None] > 0, found, images)


def posterized(images: Tensor, bits: Tensor) -> Tensor:
    """Return images of fewer levels of brightness: of the eight bits of the nearest of 256 levels the highest stay.

    Args:
        images: (B, C, H, W).
        bits: (B,) integers, 0..8.
    """
    lost = over_pixels(8 - bits)
    return ((_levels(images) >> lost) << lost) / 255


def solarized(images: Tensor, thresholds: Tensor) -> Tensor:
    """Return images whose bright pixels are inverted.

    Args:
        images: (B, C, H, W).
        thresholds: (B,) the least value that is inverted; above 1 none is.
    """
    return torch.where(images >= over_pixels(thresholds), 1 - images, images)


def smoothed(images: Tensor) -> Tensor:
    """Return images whose inner pixels are the mean of 5 of themselves and the 8 around them; the edge stays.

    Args:
        images: (B, C, H, W).
    """
    if min(images.shape[2:]) < 3:
        return images
    columns = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]  # a convolution takes seven times as long
    sums = columns[..., :-2] + columns[..., 1:-1] + columns[..., 2:]
    result = images.clone()
    result[:, :, 1:-1, 1:-1] = torch.add(sums, images[:, :, 1:-1, 1:-1], alpha=4) / 13
    return result


def luma(images: Tensor) -> Tensor:
    """Return the grey of each pixel, (B, 1, H, W).

    Args:
        images: (B, C, H, W), C = 1 or 3.
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def over_pixels(values: Tensor) -> Tensor:
    """Return one value an image, (B,), as (B, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def _blended(images: Tensor, factors: Tensor, colour: Tensor, contrast: Tensor, sharpness: Tensor) -> Tensor:
    """Return images drawn towards grey, their mean grey, their smoothed selves or else black.

    Args:
        images: (B, C, H, W).
        factors: (B,) 0 gives what they are drawn towards, 1 the images, 2 goes as far beyond.
        colour: (B,) bool, which are drawn towards grey.
        contrast: (B,) bool, which towards their mean grey.
        sharpness: (B,) bool, which towards their smoothed selves.
    """
    grey = luma(images)
    origin = torch.where(over_pixels(colour), grey, 0.0)  # (B, 1, H, W)
    origin = torch.where(over_pixels(contrast), grey.mean((1, 2, 3), keepdim=True), origin)
    origin = torch.where(over_pixels(sharpness), smoothed(images), origin)
    return torch.lerp(origin, images, over_pixels(factors)).clamp_(0, 1)


def _matrices(drew: dict[str, Tensor], shares: Tensor, height: int, width: int) -> Tensor:
    """Return where `moved` finds the pixels, (n_operations, B, 3, 2); where no move was drawn, in their places."""
    angles, shear_x, shear_y, translate_x, translate_y = (
        torch.where(drew[name], _between(OPERATIONS[name], shares), 0.0) for name in _MOVES
    )
    angles = angles.deg2rad()
    cosine, sine = angles.cos(), angles.sin()
    shear_x, shear_y = shear_x * (height / width), shear_y * (width / height)  # -1..1 along both sides
    across = torch.stack([cosine, sine * (width / height) + shear_y], dim=2)
    down = torch.stack([shear_x - sine * (height / width), cosine], dim=2)
    constant = torch.stack([shear_x + 2 * translate_x, shear_y + 2 * translate_y], dim=2)
    return torch.stack([across, down, constant], dim=2)


def _between(ends: tuple[float, float], shares: Tensor) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * shares


def _levels(images: Tensor) -> Tensor:
    return (images * 255).round().long()


def _change_chosen(images: Tensor, chosen: Tensor, function: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
    """Change the images that are `chosen` (B,), in place, and compute no others."""
    rows = chosen.nonzero().squeeze(1)
    if len(rows) > 0:
        images.index_copy_(0, rows, function(images.index_select(0, rows), *(values[rows] for values in parameters)))
    return images


def _change_all(images: Tensor, chosen: Tensor, function: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
    """Return the same, but compute all images: to learn which are chosen, the host would wait for the GPU."""
    return torch.where(over_pixels(chosen), function(images, *parameters), images)
