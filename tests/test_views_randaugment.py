"""RandAugment against torchvision and PIL, image by image with the same draws; what is drawn."""

import math

import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import functional as twin
from torchvision.transforms.v2 import functional as twin2

from distclust.data import randaugment
from distclust.data.randaugment import (
    OPERATIONS,
    Draw,
    augmented,
    autocontrasted,
    draw,
    equalized,
    luma,
    posterized,
    smoothed,
    solarized,
)
from distclust.data.views import rand_augment
from distclust.seeding import torch_generator

SHAPES = [(6, 3, 18, 18), (6, 3, 17, 24), (5, 1, 20, 16), (1, 3, 16, 23)]
NAMES = tuple(OPERATIONS)


def noise(seed=0):
    return torch_generator(seed, "views")


def images(shape, seed=0):
    """Images of whole levels: noise that covers more of 0..1 from image to image, over a slope."""
    share = torch.linspace(0.2, 1.0, shape[0]).view(-1, 1, 1, 1)
    x = share * torch.rand(shape, generator=torch_generator(seed, "images"))
    x = x + (1 - share) * torch.linspace(0, 0.9, shape[3])
    return (x * 255).round() / 255


def as_uint8(x):
    return (x * 255).round().to(torch.uint8)


def drawn(name, n_images, seed=0):
    """One operation for all, magnitudes of their own."""
    operations = torch.full((1, n_images), NAMES.index(name))
    return Draw(operations, torch.rand(1, n_images, generator=noise(seed)))


def magnitude(name, share):
    low, high = OPERATIONS[name]
    return low + (high - low) * float(share)


def close(found, expected, atol=1e-5, share=0.001):
    """Assert that all agree but for a few pixels that lie on the border between two neighbours or two levels."""
    assert found.shape == expected.shape
    assert ((found - expected).abs() > atol).float().mean() <= share


# Against torchvision, one image at a time


def sheared(image, x, y):
    angles = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    return twin.affine(image, 0.0, [0, 0], 1.0, angles, center=[0, 0])


def translated(image, x, y):
    return twin.affine(image, 0.0, [-x * image.shape[2], -y * image.shape[1]], 1.0, [0.0, 0.0])


TWINS = {
    "rotate": twin.rotate,
    "shear_x": lambda image, value: sheared(image, value, 0.0),
    "shear_y": lambda image, value: sheared(image, 0.0, value),
    "translate_x": lambda image, value: translated(image, value, 0.0),
    "translate_y": lambda image, value: translated(image, 0.0, value),
    "brightness": twin.adjust_brightness,
    "colour": lambda image, value: twin.adjust_saturation(image, value) if len(image) == 3 else image,
    "contrast": twin.adjust_contrast,
    "sharpness": twin.adjust_sharpness,
    "autocontrast": lambda image, _: twin.autocontrast(image),
    "equalize": lambda image, _: twin.equalize(as_uint8(image)).float() / 255,
    "posterize": lambda image, value: twin.posterize(as_uint8(image), int(value)).float() / 255,
    "solarize": lambda image, value: twin.solarize(image, value / 255) if value <= 255 else image,
    "identity": lambda image, _: image,
}


def one_by_one(x, of, twins=TWINS):
    found = []
    for i, image in enumerate(x):
        for operation, share in zip(of.operations[:, i], of.shares[:, i], strict=True):
            name = NAMES[operation]
            image = twins[name](image, magnitude(name, share))
        found.append(image)
    return torch.stack(found)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_operation_is_torchvisions(name, shape):
    x = images(shape)
    for seed in range(3):
        of = drawn(name, len(x), seed)
        close(augmented(x, of), one_by_one(x, of))


@pytest.mark.parametrize("shape", [(40, 3, 18, 20), (40, 1, 20, 16)])
def test_operations_follow_one_another_as_they_were_drawn(shape):
    x = images(shape)
    of = draw(len(x), 4, noise())
    close(augmented(x, of), one_by_one(x, of), atol=1e-4)


# Against PIL, with the arguments that SCAN gives it


def affine(image, *matrix):
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


PIL = {
    "rotate": lambda image, value: image.rotate(value),
    "shear_x": lambda image, value: affine(image, 1, value, 0, 0, 1, 0),
    "shear_y": lambda image, value: affine(image, 1, 0, 0, value, 1, 0),
    "translate_x": lambda image, value: affine(image, 1, 0, value * image.size[0], 0, 1, 0),
    "translate_y": lambda image, value: affine(image, 1, 0, 0, 0, 1, value * image.size[1]),
    "brightness": lambda image, value: ImageEnhance.Brightness(image).enhance(value),
    "colour": lambda image, value: ImageEnhance.Color(image).enhance(value),
    "contrast": lambda image, value: ImageEnhance.Contrast(image).enhance(value),
    "sharpness": lambda image, value: ImageEnhance.Sharpness(image).enhance(value),
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "posterize": lambda image, value: ImageOps.posterize(image, int(value)),
    "solarize": lambda image, value: ImageOps.solarize(image, value),
    "identity": lambda image, _: image,
}
ROUNDED = ("brightness", "colour", "contrast", "sharpness", "autocontrast")  # by PIL, some of them twice


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_operation_is_pils(name, shape):
    def through_pil(image, value):
        return twin.pil_to_tensor(PIL[name](twin.to_pil_image(image), value))

    x, of = images(shape), drawn(name, shape[0])
    expected = one_by_one(as_uint8(x), of, {name: through_pil}).float()
    close(augmented(x, of) * 255, expected, atol=1.5 if name in ROUNDED else 1e-3)


def test_operations_and_ranges_are_those_of_scan():
    """Its data/augment.py, `augment_list`."""
    moves, factors = (-0.1, 0.1), (0.05, 0.95)
    scan = {
        "identity": (0, 0),
        "autocontrast": (0, 0),
        "equalize": (0, 0),
        "rotate": (-30, 30),
        "solarize": (0, 256),
        **dict.fromkeys(("colour", "contrast", "brightness", "sharpness"), factors),
        **dict.fromkeys(("shear_x", "shear_y", "translate_x", "translate_y"), moves),
        "posterize": (4, 8),
    }
    assert scan == OPERATIONS


# The operations alone


def test_autocontrast_stretches_floats_and_leaves_flat_channels():
    x = 0.3 + 0.2 * torch.rand(4, 3, 9, 8, generator=noise())
    x[1], x[2, 0], x[3] = 0.25, 1.0, 0.0
    found = autocontrasted(x)
    torch.testing.assert_close(found, torch.stack([twin.autocontrast(image) for image in x]), rtol=0, atol=1e-5)
    torch.testing.assert_close(found, twin2.autocontrast(x), rtol=0, atol=1e-5)
    assert found[0].amin((1, 2)).tolist() == [0, 0, 0]
    assert found[0].amax((1, 2)).tolist() == [1, 1, 1]
    assert torch.equal(found[1], x[1])


@pytest.mark.parametrize("side", [4, 15, 16, 23, 40])
def test_equalize_is_torchvisions_for_any_histogram(side):
    powers = torch.tensor([0.1, 0.5, 1.0, 2.0, 6.0, 30.0]).view(-1, 1, 1, 1)
    x = torch.rand(6, 3, side, side, generator=noise()) ** powers
    x[0, 1], x[1, :, :-1], x[2, 0, 0, 1:] = 0.2, 1.0, 0.0
    x = as_uint8(x)
    found = (equalized(x.float() / 255) * 255).round().to(torch.uint8)
    assert torch.equal(found, torch.stack([twin.equalize(image) for image in x]))
    assert torch.equal(found, twin2.equalize(x))


def test_equalize_takes_the_nearest_level():
    x = images((4, 3, 20, 20))
    near = (x + (torch.rand(x.shape, generator=noise()) - 0.5) * 0.9 / 255).clamp(0, 1)
    torch.testing.assert_close(equalized(near), equalized(x), rtol=0, atol=1e-6)


def test_posterize_is_torchvisions_and_takes_the_nearest_level():
    bits = torch.arange(9)
    x = torch.arange(256).view(1, 1, 16, 16).expand(9, 3, 16, 16) / 255
    expected = [twin.posterize(as_uint8(image), int(n)).float() / 255 for image, n in zip(x, bits, strict=True)]
    torch.testing.assert_close(posterized(x, bits), torch.stack(expected), rtol=0, atol=1e-6)
    torch.testing.assert_close(posterized((x + 0.4 / 255).clamp(0, 1), bits), torch.stack(expected), rtol=0, atol=1e-6)


def test_solarize_inverts_from_the_threshold_up():
    x = torch.tensor([0.0, 0.3, 0.5, 0.8, 1.0]).expand(4, 1, 1, 5)
    found = solarized(x, torch.tensor([0.0, 0.5, 1.0, 1.003]))
    expected = [[1.0, 0.7, 0.5, 0.2, 0.0], [0.0, 0.3, 0.5, 0.2, 0.0], [0.0, 0.3, 0.5, 0.8, 0.0], x[0].flatten()]
    for row, wanted in zip(found.flatten(1), expected, strict=True):
        torch.testing.assert_close(row, torch.as_tensor(wanted), rtol=0, atol=1e-6)


def test_the_edge_and_images_without_an_inside_stay_sharp():
    x = images((3, 3, 16, 19))
    edge = torch.ones(16, 19, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    assert torch.equal(smoothed(x)[..., edge], x[..., edge])
    assert (smoothed(x)[..., ~edge] != x[..., ~edge]).float().mean() > 0.9
    assert torch.equal(smoothed(x[:, :, :2]), x[:, :, :2])


def test_grey_is_the_only_channel_or_torchvisions():
    x = images((3, 3, 16, 19))
    torch.testing.assert_close(luma(x), twin.rgb_to_grayscale(x), rtol=0, atol=1e-6)
    assert torch.equal(luma(x[:, :1]), x[:, :1])


@pytest.mark.parametrize("sides", [(1, 1), (1, 7), (2, 9)])
def test_small_images_are_taken(sides):
    x = torch.rand(200, 3, *sides, generator=noise())
    found = rand_augment(x, noise())
    assert found.shape == x.shape
    assert 0 <= found.min() <= found.max() <= 1


# What is drawn


def test_draws_are_uniform_and_each_image_has_its_own():
    of = draw(7000, 4, noise())
    assert of.operations.shape == of.shares.shape == (4, 7000)
    for row in of.operations:
        counts = torch.bincount(row, minlength=len(NAMES))
        assert len(counts) == len(NAMES)
        assert ((counts - 500).abs() < 110).all()  # five standard deviations
    assert (of.operations[0] == of.operations[1]).float().mean() == pytest.approx(1 / len(NAMES), abs=0.02)
    for row in of.shares:
        assert 0 <= row.min() < 0.001
        assert 0.999 < row.max() < 1
        assert float(row.mean()) == pytest.approx(0.5, abs=0.02)


def test_no_operations_change_nothing():
    x = images((3, 3, 16, 19))
    assert torch.equal(rand_augment(x, noise(), n_operations=0), x)


def test_colour_means_nothing_for_grey_images():
    x = images((5, 1, 16, 19))
    assert torch.equal(augmented(x, drawn("colour", 5)), x)


def test_images_do_not_depend_on_those_beside_them():
    x, of = images((30, 3, 18, 20)), draw(30, 4, noise())
    half = Draw(of.operations[:, :15], of.shares[:, :15])
    torch.testing.assert_close(augmented(x, of)[:15], augmented(x[:15], half), rtol=0, atol=1e-6)


def test_no_global_stream_is_read():
    x = images((8, 3, 18, 20))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = rand_augment(x, noise())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(rand_augment(x, noise()), first)


# Where it runs


def test_computing_all_images_gives_what_computing_the_chosen_ones_gives(monkeypatch):
    x, of = images((30, 3, 18, 20)), draw(30, 4, noise())
    expected = augmented(x, of)
    monkeypatch.setattr(randaugment, "_change_chosen", randaugment._change_all)
    torch.testing.assert_close(augmented(x, of), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_channels", [1, 3])
def test_off_the_cpu_no_value_is_waited_for(n_channels):
    """Tensors on "meta" have none: reading one raises."""
    x, of = images((8, n_channels, 18, 20)).to("meta"), draw(8, 4, noise())
    found = augmented(x, Draw(of.operations.to("meta"), of.shares.to("meta")))
    assert found.shape == x.shape
    assert found.dtype == torch.float32
