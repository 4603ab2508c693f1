"""Networks: the paper's layers where the paper names them, the right shapes everywhere else; scaling against numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from distclust.errors import DataError, UnknownNameError
from distclust.nets import Scaling, build, build_decoder, encoder_names
from distclust.parameters import declared
from distclust.seeding import torch_stream

images = st.tuples(st.integers(1, 4), st.integers(8, 40), st.integers(8, 40))
windows = st.tuples(st.integers(1, 9), st.integers(16, 600))
vectors = st.tuples(st.integers(1, 50))


def layers(net, kind):
    return [layer for layer in net.modules() if isinstance(layer, kind)]


@pytest.mark.parametrize(("shape", "flat"), [((1, 28, 28), 256), ((3, 32, 32), 400)])
def test_conv_is_the_network_of_the_paper(shape, flat):
    net = build("conv", shape, 128)
    paper = nn.Sequential(
        nn.Conv2d(shape[0], 6, 5),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(flat, 128),
    )
    assert [type(layer) for layer in net] == [type(layer) for layer in paper]
    paper.load_state_dict(net.state_dict())
    x = torch.rand(5, *shape)
    torch.testing.assert_close(net(x), paper(x), rtol=0, atol=0)


def test_conv_has_as_many_parameters_as_the_network_of_the_paper():
    conv = (25 + 1) * 6 + (6 * 25 + 1) * 16
    norm, linear = 2 * 6 + 2 * 16, (16 * 4 * 4 + 1) * 128
    assert sum(p.numel() for p in build("conv", (1, 28, 28), 128).parameters()) == conv + norm + linear == 35512


@settings(max_examples=30, deadline=None)
@given(images, st.integers(1, 20))
def test_images_of_any_size_there_and_back(shape, out_dim):
    net = build("conv", shape, out_dim)
    latents = net(torch.rand(3, *shape))
    assert latents.shape == (3, out_dim)
    assert min(nn.Sequential(*list(net)[:-2])(torch.rand(3, *shape)).shape[2:]) >= 2  # no stage leaves a single value
    assert build_decoder("conv", shape, out_dim)(latents).shape == (3, *shape)


@settings(max_examples=25, deadline=None)
@given(windows, st.integers(1, 20))
def test_windows_of_any_length_there_and_back(shape, out_dim):
    latents = build("auto", shape, out_dim)(torch.rand(3, *shape))
    assert latents.shape == (3, out_dim)
    assert build_decoder("auto", shape, out_dim)(latents).shape == (3, *shape)


@settings(max_examples=10, deadline=None)
@given(vectors, st.integers(1, 20))
def test_vectors_there_and_back(shape, out_dim):
    latents = build("auto", shape, out_dim)(torch.rand(3, *shape))
    assert latents.shape == (3, out_dim)
    assert build_decoder("auto", shape, out_dim)(latents).shape == (3, *shape)


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((3, 12, 12), "conv"),
        ((3, 11, 30), "mlp"),
        ((3, 30, 11), "mlp"),
        ((1, 2, 2), "mlp"),
        ((6, 50), "window"),
        ((9,), "mlp"),
    ],
)
def test_auto_goes_by_the_shape(shape, name):
    assert type(build("auto", shape, 3)) is type(build(name, shape, 3))
    assert type(build_decoder("auto", shape, 3)) is type(build_decoder(name, shape, 3))
    assert build_decoder("auto", shape, 3)(build("auto", shape, 3)(torch.rand(2, *shape))).shape == (2, *shape)


@pytest.mark.parametrize("shape", [(2, 3, 5), (4, 9)])
def test_mlp_flattens_what_is_no_vector(shape):
    latents = build("mlp", shape, 7)(torch.rand(3, *shape))
    assert latents.shape == (3, 7)
    assert build_decoder("mlp", shape, 7)(latents).shape == (3, *shape)


@pytest.mark.parametrize(
    ("name", "shape"), [("conv", (1, 8, 8)), ("conv", (3, 8, 30)), ("window", (3, 16)), ("mlp", (4,))]
)
def test_every_weight_is_used(name, shape):
    x = torch.randn(8, *shape)
    for net, inputs in ((build(name, shape, 5), x), (build_decoder(name, shape, 5), torch.randn(8, 5))):
        (net(inputs) * torch.randn(net(inputs).shape)).sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_window_has_the_sizes_of_the_authors_program():
    net = build("window", (117, 512), 128)
    convolutions = layers(net, nn.Conv2d)
    assert [c.kernel_size for c in convolutions] == [(50, 1), (40, 1), (7, 1), (4, 117)]
    assert [c.stride for c in convolutions] == [(2, 1), (2, 1), (1, 1), (1, 1)]
    assert [c.out_channels for c in convolutions] == [4, 8, 16, 32]
    assert [p.kernel_size for p in layers(net, nn.MaxPool2d)] == [(2, 1)] * 4
    assert [b.num_features for b in layers(net, nn.BatchNorm2d)] == [4, 8, 16]  # none after the last
    assert [a.negative_slope for a in layers(net, nn.LeakyReLU)] == [0.3] * 4
    assert (net.head.in_features, net.head.out_features) == (32, 128)


def test_window_keeps_the_sensors_apart_until_the_last_kernel():
    net = build("window", (5, 64), 3).eval()
    x = torch.rand(2, 5, 64)
    touched = x.clone()
    touched[:, 3] += 1
    before_last = net.stack[:-3]  # without the last convolution, its activation and its pool
    change = before_last(touched.mT[:, None]) - before_last(x.mT[:, None])  # (N, channels, T, sensors)
    assert change.abs().amax((0, 1, 2)).bool().tolist() == [False, False, False, True, False]
    assert not torch.equal(net(touched), net(x))


@pytest.mark.parametrize(
    ("name", "shape", "cure"),
    [
        ("conv", (1, 7, 28), "larger images"),
        ("conv", (1, 28, 7), "larger images"),
        ("conv", (28, 28), "encoder='mlp'"),
        ("window", (6, 15), "longer windows"),
        ("window", (6,), "encoder='mlp'"),
        ("auto", (6, 15), "encoder='mlp'"),
    ],
)
@pytest.mark.parametrize("builder", [build, build_decoder])
def test_data_that_a_network_cannot_take(builder, name, shape, cure):
    with pytest.raises(DataError, match=cure) as caught:
        builder(name, shape, 4)
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("builder", [build, build_decoder])
def test_auto_refuses_data_of_no_known_kind(builder):
    with pytest.raises(DataError):
        builder("auto", (1, 2, 3, 4), 4)


@pytest.mark.parametrize("builder", [build, build_decoder])
def test_unknown_network(builder):
    with pytest.raises(UnknownNameError, match=r"unknown network 'cnov'\. Did you mean 'conv'\?"):
        builder("cnov", (1, 28, 28), 4)


def test_all_encoders_can_be_chosen_in_a_method():
    from distclust.methods import CombinationAssignment

    encoder = declared(CombinationAssignment)["encoder"]
    assert [name for name in encoder_names() if encoder.fault(name)] == []
    assert encoder.fault("no such network")


def test_the_stream_decides_the_weights():
    def weights(purpose, member=0):
        with torch_stream(0, purpose, member=member):
            return nn.utils.parameters_to_vector(build("conv", (1, 8, 8), 4).parameters())

    torch.rand(1)
    first = weights("encoder weights")
    assert torch.equal(weights("encoder weights"), first)
    assert not torch.equal(weights("encoder weights", member=1), first)
    assert not torch.equal(weights("other weights"), first)


# Scaling


def data(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if dtype == np.uint8:
        return rng.integers(3, 200, size=shape, dtype=np.uint8)
    offsets = np.arange(shape[1]).reshape(-1, *(1,) * (len(shape) - 2))  # a mean and a spread a channel
    return (rng.normal(size=shape) * (1 + offsets) + 10 * offsets).astype(dtype)


def scaled(x, how):
    return Scaling(x.shape[1:]).fit(torch.from_numpy(x), how)(torch.from_numpy(x))


def unit(x):
    x = x.astype(np.float64)
    return (x - x.min()) / (x.max() - x.min())


def symmetric(x):
    return 2 * unit(x) - 1


def standard(x):
    x = x.astype(np.float64)
    axes = (0, *range(2, x.ndim))
    return (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True)


SHAPES = [(30, 3, 6, 5), (30, 4, 7), (30, 6)]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("how", "twin"), [("unit", unit), ("symmetric", symmetric), ("standard", standard), ("none", lambda x: x)]
)
def test_scaling_equals_numpy(how, twin, shape, dtype):
    x = data(shape, dtype)
    found = scaled(x, how)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, twin(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_auto_is_unit_for_images_and_standard_for_the_rest(shape):
    x = data(shape, np.float32)
    assert torch.equal(scaled(x, "auto"), scaled(x, "unit" if len(shape) == 4 else "standard"))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("how", "least"), [("unit", 0), ("symmetric", -1)])
def test_the_least_value_of_all_and_the_greatest_meet_the_ends(how, least, shape):
    x = data(shape, np.float32)
    found = scaled(x, how).flatten()
    assert (int(found.argmin()), int(found.argmax())) == (x.argmin(), x.argmax())  # over all channels, not in each
    assert [float(found.min()), float(found.max())] == pytest.approx([least, 1], abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(4097, 13_000), st.floats(-1e3, 1e3), st.floats(1e-2, 1e2), st.booleans())
def test_blocks_equal_the_whole(n, mean, spread, sort):
    x = np.random.default_rng(n).normal(mean, spread, size=(n, 2, 3)).astype(np.float32)
    x = np.sort(x, axis=0) if sort else x  # sorted: the blocks differ as much as they can
    fitted = Scaling((2, 3)).fit(torch.from_numpy(x), "standard")
    np.testing.assert_allclose(fitted.offset.flatten(), x.mean((0, 2), dtype=np.float64), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(fitted.factor.flatten(), 1 / x.std((0, 2), dtype=np.float64), rtol=1e-5)
    fitted.fit(torch.from_numpy(x), "unit")
    assert fitted.offset.flatten().tolist() == [x.min()] * 2
    np.testing.assert_allclose(fitted.factor.flatten(), 1 / (float(x.max()) - float(x.min())), rtol=1e-6)
    fitted.fit(torch.from_numpy(x), "symmetric")
    np.testing.assert_allclose(fitted.offset.flatten(), (float(x.max()) + float(x.min())) / 2, rtol=1e-6)
    np.testing.assert_allclose(fitted.factor.flatten(), 2 / (float(x.max()) - float(x.min())), rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.7e5])
def test_a_constant_channel_becomes_zero(value):
    x = data((5000, 3), np.float32)
    x[:, 1] = value
    found = scaled(x, "standard")
    assert not found[:, 1].any()
    np.testing.assert_allclose(found.std(0, unbiased=False), [1, 0, 1], rtol=1e-4)
    for how in ("unit", "symmetric"):
        assert not scaled(np.full((9, 1, 4, 4), value, np.float32), how).any()


@pytest.mark.parametrize("how", ["unit", "symmetric", "standard"])
def test_what_was_constant_is_not_blown_up_when_it_varies_later(how):
    fitted = Scaling((2,)).fit(torch.full((9, 2), 3.0), how)
    assert not fitted(torch.tensor([[5.0, 3.0]])).any()  # no unit says how much it varies


def test_a_channel_that_hardly_varies_is_still_brought_to_unit_spread():
    x = data((200, 2), np.float32)
    x[:, 0] *= 1e-6
    np.testing.assert_allclose(scaled(x, "standard").std(0, unbiased=False), 1, rtol=1e-4)


S = st.integers(-900, 900).map(lambda power: 2.0**power) | st.floats(1e-280, 1e280)
SHIFT = st.integers(-(2**30), 2**30)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["unit", "symmetric", "standard"]), st.sampled_from(SHAPES), st.integers(0, 99), st.data())
def test_units_do_not_matter(how, shape, seed, draw):
    rng = np.random.default_rng(seed)
    whole = rng.integers(-1000, 1000, size=shape).astype(np.float64)  # with so few digits, x + t is exact
    features = (1, shape[1], *(1,) * (len(shape) - 2)) if how == "standard" else (1,)
    n = math.prod(features)
    s = np.array(draw.draw(st.lists(S, min_size=n, max_size=n))).reshape(features)
    t = np.array(draw.draw(st.lists(SHIFT, min_size=n, max_size=n)), dtype=np.float64).reshape(features)
    found = scaled(whole, how)
    for other in (whole * s, (whole + t) * s):
        np.testing.assert_allclose(scaled(other, how), found, rtol=1e-6, atol=1e-7)
    power = 2.0 ** np.floor(np.log2(s))
    assert torch.equal(scaled(whole * power, how), found)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("how", ["unit", "symmetric", "standard", "none"])
def test_types_do_not_matter(how, shape):
    x = data(shape, np.uint8)
    for dtype in (np.float32, np.float64):
        assert torch.equal(scaled(x.astype(dtype), how), scaled(x, how))


@pytest.mark.parametrize("far", [0.0, 1e9, 1e15, -1e15])
def test_what_differs_by_the_last_digits_alone_is_told_apart(far):
    x = far + np.arange(40.0)[:, None] * [1, 3]
    np.testing.assert_array_equal(scaled(x, "standard"), scaled(x - far, "standard"))


def test_rounding_is_not_blown_up():
    x = np.random.default_rng(0).normal(size=(100, 3))
    x[:, 1] = np.where(x[:, 0] > 0, 0.1 + 0.2, 0.3)
    x[:, 2] = 1e300 * np.where(x[:, 0] > 0, 1 + 2e-16, 1)
    assert not scaled(x, "standard")[:, 1:].any()
    assert not scaled(x[:, 1:2], "unit").any()


def test_a_scaling_after_another_gives_what_it_gave_before():
    x = torch.from_numpy(data((50, 3, 4, 4), np.float64) * 1e-200)
    x[:, 2] = 3e-200
    unit, standard = Scaling((3, 4, 4)).fit(x, "unit"), Scaling((3, 4, 4)).fit(x, "standard")
    found = standard(x)
    torch.testing.assert_close(standard.after(unit)(unit(x)), found, rtol=1e-5, atol=1e-5)


def test_a_scaling_of_an_older_model_is_read():
    fitted = Scaling((2,))
    fitted.load_state_dict({"offset": torch.tensor([1.0, 2.0]), "factor": torch.tensor([1.0, 0.5])})
    assert fitted(torch.tensor([[2.0, 4.0]])).tolist() == [[1.0, 1.0]]


def test_scaling_is_kept_with_the_network():
    x = data((20, 3, 4, 4), np.float32)
    fitted, fresh = Scaling((3, 4, 4)).fit(torch.from_numpy(x), "standard"), Scaling((3, 4, 4))
    assert sorted(fitted.state_dict()) == ["factor", "length", "offset", "residual"]
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh(torch.from_numpy(x)), fitted(torch.from_numpy(x)))
    assert not list(fitted.parameters())  # it is fitted, not trained
    assert math.prod(fitted.offset.shape) == 3
