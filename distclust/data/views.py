"""Random views of images: transforms of a whole batch on its own device, with a draw of its own for every image.

Images are (B, C, H, W), C = 1 or 3, uint8 in 0..255 or floating point in 0..1; views are float32 in 0..1. All that is
random comes from one generator, which lives on the device of the images. The strengths mean what they mean in
`torchvision.transforms`, which draws once for a batch. No gradient is meant to pass through a view.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from distclust.data.randaugment import augmented, draw, luma, over_pixels
from distclust.errors import DataError, UnknownNameError

View = Callable[[Tensor, torch.Generator], Tensor]

_CHANNELS = (1, 3)  # grey, colour


class Recipe(NamedTuple):
    """Views that belong together; `compose(*a_recipe)` composes them.

    Args:
        names: keys of `VIEWS`, in the order in which they are applied.
        strengths: name of a view -> its arguments; the others keep their defaults.
    """

    names: tuple[str, ...]
    strengths: Mapping[str, Mapping[str, Any]]


def compose(names: Sequence[str], strengths: Mapping[str, Mapping[str, Any]] | None = None) -> View:
    """Return the function that applies views one after the other.

    Args:
        names: keys of `VIEWS`, in the order in which they are applied.
        strengths: name of a view -> its arguments, as in {"rotation": {"degrees": 30.0}}; the others keep their
            defaults. A view that is not among `names` may be here too.

    Returns:
        (images, noise) -> views, float32 in 0..1 of the same shape. It raises DataError if the images are not
        (B, 1 or 3, H, W), uint8 or floating point.

    Raises:
        UnknownNameError: no such view, or a view has no such argument.
    """
    strengths = {} if strengths is None else strengths
    for name in (*names, *strengths):
        if name not in VIEWS:
            raise UnknownNameError("view", name, VIEWS)
    for name, given in strengths.items():
        known = inspect.signature(VIEWS[name]).parameters.keys() - {"images", "noise"}
        for argument in given.keys() - known:
            raise UnknownNameError(f"argument of view {name!r}", argument, known)
    return partial(_composed, tuple(partial(VIEWS[name], **strengths.get(name, {})) for name in names))


def recipe(name: str, strengths: Mapping[str, Mapping[str, Any]] | None = None) -> View:
    """Return the function that applies the views of a recipe one after the other.

    Args:
        name: a key of `RECIPES`.
        strengths: name of a view -> arguments that take the place of the recipe's, as in `compose`.

    Returns:
        What `compose` returns.

    Raises:
        UnknownNameError: no such recipe or view, or a view has no such argument.
    """
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    known, given = RECIPES[name].strengths, {} if strengths is None else strengths
    merged = {view: {**known.get(view, {}), **given.get(view, {})} for view in {**known, **given}}
    return compose(RECIPES[name].names, merged)


def as_float(images: Tensor) -> Tensor:
    """Return images as float32: uint8 is divided by 255, floating point keeps its values."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def flip(images: Tensor, noise: torch.Generator, probability: float = 0.5) -> Tensor:
    """Return images of which some are mirrored, left for right.

    Args:
        images: (B, C, H, W).
        noise: on the device of the images.
        probability: of an image to be mirrored, 0..1.
    """
    images = as_float(images)
    kept = ~_chosen(images, probability, noise)
    return images.flip(3).lerp_(images, kept.float())  # less than half the time of torch.where on a CPU


def rotate(images: Tensor, degrees: float, noise: torch.Generator) -> Tensor:
    """Return images turned about their centres, bilinearly; what comes in from outside is zero.

    Args:
        images: (B, C, H, W).
        degrees: angles are uniform in -degrees..degrees, >= 0; counter-clockwise above 0.
        noise: on the device of the images.
    """
    return _rotated(as_float(images), _uniform(images, -degrees, degrees, noise))


def shift(images: Tensor, pixels: int, noise: torch.Generator) -> Tensor:
    """Return images moved by whole pixels along both axes; what comes in from outside is zero.

    Args:
        images: (B, C, H, W).
        pixels: moves are uniform in -pixels..pixels, >= 0.
        noise: on the device of the images.
    """
    size = (len(images), 2)
    return _shifted(as_float(images), torch.randint(-pixels, pixels + 1, size, generator=noise, device=noise.device))


def resized_crop(
    images: Tensor,
    noise: torch.Generator,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """Return a box of each image, enlarged bilinearly to the size of the image.

    A box that is longer than a side of the image is cut to that side, where torchvision's RandomResizedCrop draws anew.

    Args:
        images: (B, C, H, W).
        noise: on the device of the images.
        scale: least and greatest area of a box as a share of the image's, 0..1; areas are uniform.
        ratio: least and greatest width of a box over its height, > 0; their logarithms are uniform.
    """
    return _cropped(as_float(images), _boxes(images, scale, ratio, noise))


def distort_colours(
    images: Tensor,
    noise: torch.Generator,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
    probability: float = 0.8,
) -> Tensor:
    """Return images of which some have other colours; for grey ones saturation and hue mean nothing.

    The steps are those of torchvision's ColorJitter, each cut to 0..1, always in the order brightness, contrast,
    saturation, hue, which torchvision shuffles.

    Args:
        images: (B, C, H, W).
        noise: on the device of the images.
        brightness: factors are uniform in 1 - brightness..1 + brightness, but never below 0; >= 0.
        contrast: likewise.
        saturation: likewise.
        hue: shifts are uniform in -hue..hue, as shares of the colour circle, 0..0.5.
        probability: of an image to be changed, 0..1.
    """
    images = as_float(images)
    chosen = _chosen(images, probability, noise)
    distorted = _adjusted_brightness(images, _factors(images, brightness, noise))
    distorted = _adjusted_contrast(distorted, _factors(images, contrast, noise))
    if images.shape[1] == 3:
        distorted = _adjusted_saturation(distorted, _factors(images, saturation, noise))
        distorted = _adjusted_hue(distorted, _uniform(images, -hue, hue, noise))
    return distorted.lerp_(images, (~chosen).float())


def to_grey(images: Tensor, noise: torch.Generator, probability: float = 0.2) -> Tensor:
    """Return images of which some have lost their colours: the luma of torchvision in all three channels.

    Args:
        images: (B, C, H, W); grey ones stay as they are.
        noise: on the device of the images.
        probability: of an image to lose them, 0..1.
    """
    images = as_float(images)
    return torch.where(_chosen(images, probability, noise), luma(images), images)


def cut_out(images: Tensor, noise: torch.Generator, sides: tuple[int, int] = (1, 16), value: float = 0.5) -> Tensor:
    """Return images with a square hole in each, as SCAN cuts it after DeVries and Taylor (2017).

    The hole's centre is uniform over the pixels and what reaches beyond the image is lost. SCAN cuts after the data's
    mean has been taken away and writes 0, the mean; here it has not, and 0.5 is what comes nearest without knowing the
    data: the mean of CIFAR-10 is 0.49, 0.48, 0.45. For glyphs on a black ground 0 is nearer.

    Args:
        images: (B, C, H, W).
        noise: on the device of the images.
        sides: least and greatest side in pixels, >= 0; sides are uniform and then, as in SCAN, rounded down to even
            numbers. (16, 16) gives holes of one size.
        value: of the pixels in the hole, 0..1.
    """
    images = as_float(images)
    height, width = images.shape[2:]
    reach = _whole(images, sides[0], sides[1], noise)[:, None] // 2  # (B, 1)
    down = _near(_whole(images, 0, height - 1, noise), reach, height)  # (B, H)
    across = _near(_whole(images, 0, width - 1, noise), reach, width)  # (B, W)
    return images.masked_fill(down[:, None, :, None] & across[:, None, None, :], value)


def rand_augment(images: Tensor, noise: torch.Generator, n_operations: int = 4) -> Tensor:
    """Return images changed by operations of RandAugment that each image draws, with their magnitudes, for itself.

    Operations and magnitudes are those of SCAN's code, which draws both uniformly: `randaugment.OPERATIONS` has them.
    As there, pixels that move come from their nearest neighbours, and what comes in from outside is black. The images
    are not rounded to 256 levels between operations, which PIL does. For grey images "colour" changes nothing.

    Args:
        images: (B, C, H, W).
        noise: on the device of the images.
        n_operations: of each image, >= 0; one may come twice.
    """
    return augmented(as_float(images), draw(len(images), n_operations, noise))


VIEWS: dict[str, Callable[..., Tensor]] = {
    "flip": flip,
    "rotation": partial(rotate, degrees=15.0),
    "shift": partial(shift, pixels=4),
    "crop": resized_crop,
    "colour": distort_colours,
    "grey": to_grey,
    "cutout": cut_out,
    "randaugment": rand_augment,
}

RECIPES: dict[str, Recipe] = {
    "moco": Recipe(  # of MoCo v1 and MiCE: colours of every image are distorted, hues strongly
        ("crop", "grey", "colour", "flip"),
        {
            "crop": {"scale": (0.2, 1.0)},
            "grey": {"probability": 0.2},
            "colour": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.4, "probability": 1.0},
        },
    ),
    "simclr": Recipe(  # of SimCLR on CIFAR: colours at strength 0.5, no blur; SCAN's crops begin at 0.2
        ("crop", "flip", "colour", "grey"),
        {
            "crop": {"scale": (0.08, 1.0)},
            "colour": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "probability": 0.8},
            "grey": {"probability": 0.2},
        },
    ),
    "randaugment": Recipe(  # of SCAN on CIFAR; its random crop is as large as the image and changes nothing
        ("flip", "randaugment", "cutout"), {"randaugment": {"n_operations": 4}, "cutout": {"sides": (1, 16)}}
    ),
    "digits": Recipe(  # for grey glyphs on black: a mirror image would be another glyph, 6 turned far a 9
        ("rotation", "shift", "crop", "colour"),
        {
            "rotation": {"degrees": 15.0},
            "shift": {"pixels": 2},
            "crop": {"scale": (0.5, 1.0)},
            "colour": {"brightness": 0.4, "contrast": 0.4, "probability": 0.8},
        },
    ),
}


@torch.no_grad()
def _composed(steps: tuple[Callable[..., Tensor], ...], images: Tensor, noise: torch.Generator) -> Tensor:
    if images.ndim != 4 or images.shape[1] not in _CHANNELS or 0 in images.shape:
        raise DataError(
            f"views got data of shape {tuple(images.shape)}; they are for images (number, channels, height, width) "
            f"with 1 channel or 3, none of the others 0. Reshape the images, or leave the views out."
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise DataError(
            f"views got images of type {images.dtype}; they are for uint8 in 0..255 or floating point in 0..1. "
            f"Convert the images."
        )
    images = as_float(images)
    for step in steps:
        images = step(images, noise=noise)
    return images


# What is drawn: one number an image


def _uniform(images: Tensor, low: float, high: float, noise: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(len(images), generator=noise, device=noise.device)  # (B,)


def _whole(images: Tensor, low: int, high: int, noise: torch.Generator) -> Tensor:
    return torch.randint(low, high + 1, (len(images),), generator=noise, device=noise.device)  # (B,)


def _factors(images: Tensor, strength: float, noise: torch.Generator) -> Tensor:
    return _uniform(images, max(0.0, 1 - strength), 1 + strength, noise)


def _chosen(images: Tensor, probability: float, noise: torch.Generator) -> Tensor:
    return over_pixels(_uniform(images, 0.0, 1.0, noise) < probability)


def _boxes(images: Tensor, scale: tuple[float, float], ratio: tuple[float, float], noise: torch.Generator) -> Tensor:
    """Return top, left, height and width of a box in each image, (B, 4) float32, whole pixels."""
    height, width = images.shape[2:]
    area = height * width * _uniform(images, *scale, noise)
    shape = _uniform(images, math.log(ratio[0]), math.log(ratio[1]), noise).exp()
    rows = (area / shape).sqrt().round().clamp(1, height)
    columns = (area * shape).sqrt().round().clamp(1, width)
    top = (_uniform(images, 0.0, 1.0, noise) * (height - rows + 1)).floor()
    left = (_uniform(images, 0.0, 1.0, noise) * (width - columns + 1)).floor()
    return torch.stack([top, left, rows, columns], dim=1)


# What is done with it: float32 in, float32 out


def _rotated(images: Tensor, angles: Tensor) -> Tensor:
    """Return images turned by `angles` (B,) degrees."""
    height, width = images.shape[2:]
    cosine, sine = angles.deg2rad().cos()[:, None, None], angles.deg2rad().sin()[:, None, None]
    x, y = _centres(width, images.device), _centres(height, images.device)[:, None]
    across = cosine * x - (sine * (height / width)) * y  # (B, H, W); affine_grid is less exact under autocast or TF32
    down = (sine * (width / height)) * x + cosine * y
    return grid_sample(images, torch.stack([across, down], dim=3), align_corners=False).clamp_(0, 1)


def _shifted(images: Tensor, moves: Tensor) -> Tensor:
    """Return images moved by `moves` (B, 2) pixels, down and to the right."""
    for axis, move in zip((2, 3), moves.unbind(1), strict=True):
        side = images.shape[axis]
        shape = (-1, 1, side, 1) if axis == 2 else (-1, 1, 1, side)
        sources = (torch.arange(side, device=images.device) - move[:, None]).view(shape)  # may lie outside
        moved = images.gather(axis, sources.clamp(0, side - 1).expand_as(images))
        images = torch.where((sources >= 0) & (sources < side), moved, 0.0)
    return images


def _cropped(images: Tensor, boxes: Tensor) -> Tensor:
    """Return what lies in `boxes` (B, 4), enlarged to the size of the images."""
    top, left, rows, columns = boxes.unbind(1)
    down = _sources(top, rows, images.shape[2])[:, :, None]  # (B, H, 1)
    across = _sources(left, columns, images.shape[3])[:, None, :]  # (B, 1, W)
    grid = torch.stack(torch.broadcast_tensors(across, down), dim=3)  # (B, H, W, 2)
    return grid_sample(images, grid, padding_mode="border", align_corners=False).clamp_(0, 1)


def _sources(start: Tensor, length: Tensor, side: int) -> Tensor:
    """Return where along a side a view's pixels come from, (B, side) in -1..1, never from beyond the box."""
    start, length = start[:, None], length[:, None]
    pixels = (torch.arange(side, device=start.device) + 0.5) * (length / side) - 0.5  # from the box's first pixel
    pixels = start + torch.minimum(pixels.clamp(min=0), length - 1)
    return (2 * pixels + 1) / side - 1


def _near(places: Tensor, reach: Tensor, side: int) -> Tensor:
    """Return which pixels of a side lie from `reach` (B, 1) before `places` (B,) to just before as far behind them."""
    distance = torch.arange(side, device=places.device) - places[:, None]
    return (distance >= -reach) & (distance < reach)  # (B, side)


def _centres(side: int, device: torch.device) -> Tensor:
    """Return where the pixels of a side lie, (side,) in -1..1, as `grid_sample` counts."""
    return (2 * torch.arange(side, device=device) + 1) / side - 1


def _adjusted_brightness(images: Tensor, factors: Tensor) -> Tensor:
    return (images * over_pixels(factors)).clamp_(0, 1)


def _adjusted_contrast(images: Tensor, factors: Tensor) -> Tensor:
    return torch.lerp(luma(images).mean((1, 2, 3), keepdim=True), images, over_pixels(factors)).clamp_(0, 1)


def _adjusted_saturation(images: Tensor, factors: Tensor) -> Tensor:
    return torch.lerp(luma(images), images, over_pixels(factors)).clamp_(0, 1)


def _adjusted_hue(images: Tensor, shifts: Tensor) -> Tensor:
    """Return colour images whose hues are turned by `shifts` (B,), shares of the circle.

    Hue, saturation and value stand for the greatest channel, the least and the place on the circle; only this moves.
    """
    red, green, blue = images.split(1, dim=1)  # (B, 1, H, W) each
    greatest = torch.maximum(torch.maximum(red, green), blue)
    least = torch.minimum(torch.minimum(red, green), blue)
    chroma = greatest - least
    divisor = chroma.clamp(min=1e-12)  # of a grey pixel, whose hue is then 0
    of_red, of_green, of_blue = (green - blue) / divisor, (blue - red) / divisor + 2, (red - green) / divisor + 4
    hue = torch.lerp(of_blue, of_green, (greatest == green).float())  # ten times as fast as torch.where on a CPU
    hue = torch.lerp(hue, of_red, (greatest == red).float())  # in sixths of the circle
    hue = torch.remainder(hue + 6 * over_pixels(shifts), 6.0)
    shares = torch.cat([(hue - 3).abs() - 1, 2 - (hue - 2).abs(), 2 - (hue - 4).abs()], dim=1).clamp_(0, 1)
    return torch.addcmul(least, chroma, shares).clamp_(0, 1)
