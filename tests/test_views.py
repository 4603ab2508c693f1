"""Views against torchvision, image by image with the same factors; what is drawn, and what is left alone."""

import pickle

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as twin

from distclust.data import views
from distclust.data.views import (
    RECIPES,
    VIEWS,
    as_float,
    compose,
    cut_out,
    distort_colours,
    flip,
    rand_augment,
    recipe,
    resized_crop,
    rotate,
    shift,
    to_grey,
)
from distclust.errors import DataError, UnknownNameError
from distclust.seeding import torch_generator

SHAPES = [(6, 3, 12, 12), (6, 3, 9, 20), (6, 3, 17, 8), (1, 3, 10, 11), (6, 1, 12, 9), (1, 1, 8, 8)]
COLOUR_SHAPES = [shape for shape in SHAPES if shape[1] == 3]
EVERY = tuple(VIEWS)
STRENGTHS = {"flip": {"probability": 1.0}, "colour": {"probability": 1.0}, "grey": {"probability": 1.0}}


def noise(seed=0):
    return torch_generator(seed, "views")


def images(shape, seed=0):
    """Random pixels, with runs of equal and of extreme values among them."""
    stream = torch_generator(seed, "images")
    x = torch.rand(shape, generator=stream)
    x[:, :, :2] = x[:, :1, :2]  # grey pixels
    x[:, :, 2, :2], x[:, :, 2, 2:4] = 0.0, 1.0  # black and white
    x[:, :2, 3] = x[:, :1, 3]  # two channels alike
    x[:, -2:, 4] = x[:, -1:, 4]
    x[:, 0, 5] = x[:, -1, 5]
    return x


def one_by_one(function, x, *parameters):
    return torch.stack([function(image, *values) for image, *values in zip(x, *parameters, strict=True)])


def numbers(low, high, x, seed=1):
    return low + (high - low) * torch.rand(len(x), generator=torch_generator(seed, "numbers"))


def viewed(name, x, seed=0, **strengths):
    return compose([name], {name: {**STRENGTHS.get(name, {}), **strengths}})(x, noise(seed))


# Against torchvision


@pytest.mark.parametrize("shape", SHAPES)
def test_flip_is_torchvisions(shape):
    x = images(shape)
    torch.testing.assert_close(flip(x, noise(), 1.0), one_by_one(twin.hflip, x), rtol=0, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("limit", [15, 90, 180])
def test_rotation_is_torchvisions(shape, limit):
    x = images(shape)
    angles = numbers(-limit, limit, x)
    bilinear = InterpolationMode.BILINEAR
    expected = one_by_one(lambda image, angle: twin.rotate(image, float(angle), bilinear), x, angles)
    torch.testing.assert_close(views._rotated(x, angles), expected, rtol=0, atol=1e-5)


def test_a_quarter_turn_is_counter_clockwise_and_no_turn_changes_nothing():
    x = images((2, 3, 9, 9))
    torch.testing.assert_close(
        views._rotated(x, torch.tensor([90.0, 0.0]))[0], x[0].rot90(1, (1, 2)), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(views._rotated(x, torch.zeros(2)), x, rtol=0, atol=1e-5)


PARTS = [
    (views._adjusted_brightness, twin.adjust_brightness, 0.0, 2.0, 1e-5, SHAPES),
    (views._adjusted_contrast, twin.adjust_contrast, 0.0, 2.0, 1e-5, SHAPES),
    (views._adjusted_saturation, twin.adjust_saturation, 0.0, 2.0, 1e-5, COLOUR_SHAPES),
    (views._adjusted_hue, twin.adjust_hue, -0.5, 0.5, 1e-4, COLOUR_SHAPES),
    (views._adjusted_hue, twin.adjust_hue, -0.1, 0.1, 1e-4, COLOUR_SHAPES),
]


@pytest.mark.parametrize(("part", "function", "low", "high", "tolerance", "shapes"), PARTS)
def test_colours_are_torchvisions(part, function, low, high, tolerance, shapes):
    for shape in shapes:
        x = images(shape)
        factors = numbers(low, high, x)
        expected = one_by_one(lambda image, factor: function(image, float(factor)), x, factors)
        torch.testing.assert_close(part(x, factors), expected, rtol=0, atol=tolerance)


def test_a_whole_turn_and_none_keep_the_hues():
    x = images((3, 3, 12, 12))
    for turn in (-1.0, 0.0, 1.0):
        torch.testing.assert_close(views._adjusted_hue(x, torch.full((3,), turn)), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_colours_are_distorted_in_the_documented_order(shape):
    x = images(shape)
    n, again = len(x), noise()

    def drawn(low, high):
        return low + (high - low) * torch.rand(n, generator=again)

    chosen = drawn(0, 1) < 0.5
    steps = [(twin.adjust_brightness, drawn(0.7, 1.3)), (twin.adjust_contrast, drawn(0.0, 2.5))]
    if shape[1] == 3:
        steps += [(twin.adjust_saturation, drawn(0.8, 1.2)), (twin.adjust_hue, drawn(-0.2, 0.2))]
    expected = x.clone()
    for i in range(n):
        for function, factors in steps:
            expected[i] = function(expected[i], float(factors[i])) if chosen[i] else expected[i]
    found = distort_colours(x, noise(), 0.3, 1.5, 0.2, 0.2, probability=0.5)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_grey_is_torchvisions(shape):
    x = images(shape)
    expected = one_by_one(lambda image: twin.rgb_to_grayscale(image, shape[1]), x)
    torch.testing.assert_close(to_grey(x, noise(), 1.0), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_crop_is_torchvisions(shape):
    x = images(shape)
    for seed in range(5):
        boxes = views._boxes(x, (0.05, 1.0), (0.3, 3.0), noise(seed))
        expected = one_by_one(lambda image, box: twin.resized_crop(image, *box.int().tolist(), shape[2:]), x, boxes)
        torch.testing.assert_close(views._cropped(x, boxes), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_shift_is_torchvisions(shape):
    x = images(shape)
    moves = torch.randint(-7, 8, (len(x), 2), generator=noise())
    expected = one_by_one(lambda image, move: twin.affine(image, 0.0, move.flip(0).tolist(), 1.0, [0.0, 0.0]), x, moves)
    torch.testing.assert_close(views._shifted(x, moves), expected, rtol=0, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_cutout_is_a_square_around_a_pixel_cut_to_the_image(shape):
    x = images(shape)
    n, again = len(x), noise()
    ends = ((3, 10), (0, shape[2]), (0, shape[3]))
    size, rows, columns = (torch.randint(*low_and_high, (n,), generator=again).tolist() for low_and_high in ends)
    expected = x.clone()
    for image, side, row, column in zip(expected, size, rows, columns, strict=True):
        half = side // 2
        image[:, max(row - half, 0) : row + half, max(column - half, 0) : column + half] = 0.25
    assert torch.equal(cut_out(x, noise(), (3, 9), value=0.25), expected)


# What is drawn


def test_boxes_have_the_areas_and_shapes_that_were_asked_for():
    x = torch.zeros(4000, 1, 60, 90)
    top, left, rows, columns = views._boxes(x, (0.2, 0.4), (3 / 4, 4 / 3), noise()).unbind(1)
    area, shape = rows * columns / (60 * 90), columns / rows
    assert 0.19 < area.min() < 0.21
    assert 0.39 < area.max() < 0.41
    assert float(area.mean()) == pytest.approx(0.3, abs=0.01)
    assert 0.7 < shape.min() < 0.77
    assert 1.3 < shape.max() < 1.4
    assert float(shape.log().mean()) == pytest.approx(0, abs=0.02)
    for start, length, side in ((top, rows, 60), (left, columns, 90)):
        assert torch.equal(start, start.round())
        assert torch.equal(length, length.round())
        assert start.min() == 0
        assert (start + length).max() == side
        assert float((start + length / 2).mean()) == pytest.approx(side / 2, abs=0.5)


@pytest.mark.parametrize("sides", [(4, 30), (30, 4), (1, 1)])
def test_boxes_stay_inside_the_image(sides):
    x = torch.zeros(500, 1, *sides)
    top, left, rows, columns = views._boxes(x, (0.001, 1.0), (0.1, 10.0), noise()).unbind(1)
    for start, length, side in ((top, rows, sides[0]), (left, columns, sides[1])):
        assert start.min() >= 0
        assert length.min() >= 1
        assert (start + length).max() <= side


def test_a_box_as_large_as_the_image_changes_nothing():
    x = images((3, 3, 9, 14))
    box = torch.tensor([[0.0, 0.0, 9.0, 14.0]]).expand(3, 4)
    torch.testing.assert_close(views._cropped(x, box), x, rtol=0, atol=1e-5)


def test_factors_fill_their_range_and_never_fall_below_zero():
    x = torch.zeros(5000, 1, 1, 1)
    for strength, low, high in ((0.4, 0.6, 1.4), (1.5, 0.0, 2.5), (0.0, 1.0, 1.0)):
        factors = views._factors(x, strength, noise())
        assert float(factors.min()) == pytest.approx(low, abs=0.01)
        assert float(factors.max()) == pytest.approx(high, abs=0.01)


def test_shifts_reach_every_move():
    x = torch.zeros(600, 1, 7, 7)
    x[:, :, 3, 3] = 1
    places = shift(x, 2, noise()).flatten(1).argmax(1)
    found = {(int(place) // 7 - 3, int(place) % 7 - 3) for place in places}
    assert found == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def test_holes_have_even_sides_and_reach_every_pixel():
    x = torch.ones(3000, 1, 40, 30)
    holes = cut_out(x, noise(), (0, 8), value=0.0) == 0
    heights, widths = holes.any(3).sum((1, 2)), holes.any(2).sum((1, 2))
    inside = ~holes[:, :, [0, -1]].any(-1).flatten(1).any(1) & ~holes[..., [0, -1]].flatten(1).any(1)
    assert torch.equal(heights[inside], widths[inside])
    shares = torch.bincount(heights[inside & (heights > 0)] // 2, minlength=5)[1:] / inside.sum()
    assert set(heights[inside].tolist()) == {0, 2, 4, 6, 8}
    assert shares[:3].tolist() == pytest.approx([2 / 9] * 3, abs=0.05)  # 2 or 3, 4 or 5, 6 or 7
    assert float(shares[3]) == pytest.approx(1 / 9, abs=0.05)
    assert holes.any(0).all()


def test_angles_and_hues_fill_their_ranges(monkeypatch):
    drawn = {}
    monkeypatch.setattr(views, "_rotated", lambda images, angles: drawn.update(degrees=angles))
    monkeypatch.setattr(views, "_adjusted_hue", lambda images, shifts: drawn.update(hue=shifts) or images)
    rotate(torch.zeros(3000, 1, 1, 1), 25.0, noise())
    distort_colours(torch.zeros(3000, 3, 1, 1), noise(), hue=0.2)
    for values, limit in ((drawn["degrees"], 25), (drawn["hue"], 0.2)):
        assert float(values.min()) == pytest.approx(-limit, rel=0.01)
        assert float(values.max()) == pytest.approx(limit, rel=0.01)
        assert float(values.mean()) == pytest.approx(0, abs=0.05 * limit)


@pytest.mark.parametrize("name", EVERY)
def test_same_seed_same_bytes(name):
    x = images((8, 3, 12, 10))
    first = compose([name])(x, noise(3))
    assert torch.equal(compose([name])(x, noise(3)), first)
    assert not torch.equal(compose([name])(x, noise(4)), first)


@pytest.mark.parametrize("name", EVERY)
def test_equal_images_get_views_of_their_own(name):
    x = images((1, 3, 12, 10)).expand(40, 3, 12, 10)
    found = compose([name], {"grey": {"probability": 0.5}})(x, noise())
    assert len(found.flatten(1).unique(dim=0)) >= (2 if name in ("flip", "grey") else 20)


@pytest.mark.parametrize("function", [flip, distort_colours, to_grey])
def test_probability(function):
    x = images((400, 3, 6, 6))

    def changed(probability):
        return (function(x, noise(), probability=probability) != x).flatten(1).any(1).float().mean()

    assert torch.equal(function(x, noise(), probability=0.0), x)
    assert changed(1.0) == 1
    assert float(changed(0.3)) == pytest.approx(0.3, abs=0.08)


# What goes in and what comes out


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("shape", SHAPES)
def test_any_images_give_float32_in_0_to_1_and_stay_as_they_were(name, shape):
    whole = (images(shape) * 255).to(torch.uint8)
    kept = whole.clone()
    of_whole = viewed(name, whole)
    assert torch.equal(whole, kept)
    x = whole.float() / 255
    for given in (x, x.double(), x.contiguous(memory_format=torch.channels_last)):
        kept = given.clone()
        found = viewed(name, given)
        assert torch.equal(given, kept)
        assert found.dtype == torch.float32
        assert found.device == given.device
        assert found.shape == shape
        assert 0 <= found.min() <= found.max() <= 1
        torch.testing.assert_close(found, of_whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_stay_within_range(name, value):
    found = viewed(name, torch.full((30, 3, 7, 9), value))
    assert 0 <= found.min() <= found.max() <= 1


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_a_view_alone_takes_what_a_composed_one_takes(name, dtype):
    x = (images((5, 3, 8, 9)) * 255).to(torch.uint8)
    x = x if dtype == torch.uint8 else x.to(dtype) / 255
    assert torch.equal(VIEWS[name](x, noise=noise()), compose([name])(x, noise()))


def test_as_float():
    x = torch.tensor([0, 51, 255], dtype=torch.uint8)
    torch.testing.assert_close(as_float(x), torch.tensor([0.0, 0.2, 1.0]))
    assert torch.equal(as_float(x.double()), x.float())
    assert as_float(x.double()).dtype == torch.float32


def test_grey_images_change_in_brightness_and_contrast_alone():
    x = images((6, 1, 9, 9))
    assert torch.equal(to_grey(x, noise(), 1.0), x)
    assert torch.equal(distort_colours(x, noise(), 0.0, 0.0, 1.0, 0.5, 1.0), x)
    assert not torch.equal(distort_colours(x, noise(), 0.4, 0.0, 0.0, 0.0, 1.0), x)
    assert not torch.equal(distort_colours(x, noise(), 0.0, 0.4, 0.0, 0.0, 1.0), x)


@pytest.mark.parametrize("name", EVERY)
def test_no_gradient_passes_through_a_composed_view(name):
    x = images((4, 3, 8, 8)).requires_grad_()
    assert not viewed(name, x).requires_grad


@pytest.mark.parametrize("name", EVERY)
def test_autocast_costs_no_precision(name):
    x = images((4, 3, 30, 40))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = viewed(name, x)
    assert found.dtype == torch.float32
    assert torch.equal(found, viewed(name, x))


# Composed


def test_views_are_applied_in_the_order_of_their_names_from_one_stream():
    x = images((5, 3, 10, 12))
    stream = noise()
    expected = to_grey(rotate(resized_crop(x, stream, scale=(0.5, 0.9)), 30.0, stream), stream, 0.5)
    strengths = {"crop": {"scale": (0.5, 0.9)}, "rotation": {"degrees": 30.0}, "grey": {"probability": 0.5}}
    assert torch.equal(compose(("crop", "rotation", "grey"), strengths)(x, noise()), expected)


def test_no_views_give_the_images_as_float():
    x = (images((5, 3, 10, 12)) * 255).to(torch.uint8)
    assert torch.equal(compose(())(x, noise()), x.float() / 255)


def test_a_composed_view_travels_between_processes():
    x = images((5, 3, 10, 12))
    view = compose(EVERY, STRENGTHS)
    assert torch.equal(pickle.loads(pickle.dumps(view))(x, noise()), view(x, noise()))


# Recipes


def test_recipes_are_those_of_the_papers():
    x = images((9, 3, 20, 24))
    stream = noise()
    expected = to_grey(resized_crop(x, stream, (0.2, 1.0)), stream, 0.2)
    expected = flip(distort_colours(expected, stream, 0.4, 0.4, 0.4, 0.4, probability=1.0), stream)
    assert torch.equal(recipe("moco")(x, noise()), expected)
    stream = noise()
    expected = flip(resized_crop(x, stream, (0.08, 1.0)), stream)
    expected = to_grey(distort_colours(expected, stream, 0.4, 0.4, 0.4, 0.1, probability=0.8), stream, 0.2)
    assert torch.equal(recipe("simclr")(x, noise()), expected)
    stream = noise()
    expected = cut_out(rand_augment(flip(x, stream), stream, 4), stream, (1, 16), 0.5)
    assert torch.equal(recipe("randaugment")(x, noise()), expected)


def test_digits_are_neither_mirrored_nor_turned_far_nor_cut_out():
    names, strengths = RECIPES["digits"]
    assert not {"flip", "cutout", "randaugment"} & set(names)
    assert strengths["rotation"]["degrees"] <= 15


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("n_channels", [1, 3])
def test_recipes_can_be_drawn_again_and_differ_from_image_to_image(name, n_channels):
    x = images((1, n_channels, 16, 20)).expand(20, n_channels, 16, 20)
    view = recipe(name)
    found = view(x, noise())
    assert torch.equal(pickle.loads(pickle.dumps(view))(x, noise()), found)
    assert torch.equal(compose(*RECIPES[name])(x, noise()), found)
    assert len(found.flatten(1).unique(dim=0)) >= 15
    assert 0 <= found.min() <= found.max() <= 1


def test_strengths_take_the_place_of_the_recipes_own_one_by_one():
    x = images((9, 3, 20, 24))
    strengths = {"colour": {"hue": 0.0}, "flip": {"probability": 0.0}, "rotation": {"degrees": 3.0}}
    kept = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "probability": 1.0}
    expected = compose(RECIPES["moco"].names, {"colour": {**kept, "hue": 0.0}, "flip": {"probability": 0.0}})
    assert torch.equal(recipe("moco", strengths)(x, noise()), expected(x, noise()))
    assert RECIPES["moco"].strengths["colour"]["hue"] == 0.4


def test_unknown_names_of_recipes():
    with pytest.raises(UnknownNameError, match=r"unknown recipe 'mocco'\. Did you mean 'moco'\? Known: digits"):
        recipe("mocco")
    with pytest.raises(UnknownNameError, match=r"unknown view 'colours'\. Did you mean 'colour'"):
        recipe("moco", {"colours": {"hue": 0.0}})
    with pytest.raises(UnknownNameError, match="unknown argument of view 'crop' 'scales'"):
        recipe("moco", {"crop": {"scales": (0.5, 1.0)}})


def test_unknown_names():
    with pytest.raises(UnknownNameError, match=r"unknown view 'flap'\. Did you mean 'flip'\? Known: colour, crop"):
        compose(("rotation", "flap"))
    with pytest.raises(UnknownNameError, match=r"unknown view 'rotate'\. Did you mean 'rotation'"):
        compose(("rotation",), {"rotate": {"degrees": 3.0}})
    with pytest.raises(
        UnknownNameError,
        match=r"unknown argument of view 'rotation' 'degree'\. Did you mean 'degrees'\? Known: degrees\.",
    ):
        compose(("rotation",), {"rotation": {"degree": 3.0}})
    with pytest.raises(UnknownNameError, match="unknown argument of view 'flip' 'noise'"):
        compose(("flip",), {"flip": {"noise": 3.0}})


def test_strengths_of_a_view_that_is_not_applied_are_left_alone():
    x = images((5, 3, 10, 12))
    assert torch.equal(compose(("flip",), {"rotation": {"degrees": 3.0}})(x, noise()), compose(("flip",))(x, noise()))


@pytest.mark.parametrize(
    "shape", [(3, 8, 8), (2, 4, 8, 8), (2, 2, 8, 8), (2, 0, 8, 8), (0, 3, 8, 8), (2, 3, 0, 8), (5,)]
)
def test_data_that_is_no_image(shape):
    with pytest.raises(DataError, match="Reshape the images") as caught:
        compose(("flip",))(torch.zeros(shape), noise())
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_images_of_a_type_that_is_not_taken(dtype):
    with pytest.raises(DataError, match="Convert the images") as caught:
        compose(("flip",))(torch.zeros((2, 3, 8, 8), dtype=dtype), noise())
    assert str(dtype) in str(caught.value)
