"""Autoencoders against slow numpy twins that read nothing but their weights; their sizes, ranges and refusals."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from distclust.errors import DataError, UnknownNameError
from distclust.nets import (
    Autoencoder,
    ImageDecoder,
    ImageEncoder,
    MLPEncoder,
    PseudoClassifier,
    SeriesEncoder,
    WindowDecoder,
    build_autoencoder,
    default_latent_dim,
)
from distclust.nets.small import MLPDecoder
from distclust.seeding import torch_stream

sides = st.integers(8, 128)
images = st.tuples(st.integers(1, 4), sides, sides)
small_images = st.tuples(st.integers(1, 3), st.integers(8, 36), st.integers(8, 36))
windows = st.tuples(st.integers(1, 9), st.integers(16, 300))
latent_dims = st.integers(1, 20)


def layers(net, *kinds):
    return [layer for layer in net.modules() if isinstance(layer, kinds)]


def normal(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def settled(block, shape, latent_dim, x, seed):
    """A block in float64, its batch norms with statistics, scales and shifts of their own, in evaluation."""
    with torch_stream(seed, "weights"):
        net = block(shape, latent_dim).double()
        for norm in layers(net, nn.BatchNorm1d, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, -1.5, 1.5)
            nn.init.normal_(norm.bias)
    net(x)
    return net.eval()


# Twins: one output or input position at a time


def leaky(x):
    return np.where(x > 0, x, 0.3 * x)


def normed(x, norm):
    mean, variance, scale, shift = (
        t.detach().numpy()[:, None, None] for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + shift


def convolved(x, weight, bias, stride, padding):
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    out, _, *kernel = weight.shape
    shape = [(x.shape[2 + a] - kernel[a]) // stride[a] + 1 for a in (0, 1)]
    result = np.empty((len(x), out, *shape))
    for i, j in np.ndindex(*shape):
        top, left = i * stride[0], j * stride[1]
        result[:, :, i, j] = np.tensordot(
            x[:, :, top : top + kernel[0], left : left + kernel[1]], weight, ((1, 2, 3),) * 2
        )
    return result + bias[:, None, None]


def spread(x, weight, bias, stride, padding):
    """Transposed convolution: every input position adds its kernel to the output, whose margin is cut off."""
    _, out, *kernel = weight.shape
    height, width = [(x.shape[2 + a] - 1) * stride[a] + kernel[a] for a in (0, 1)]
    result = np.zeros((len(x), out, height, width))
    for i, j in np.ndindex(*x.shape[2:]):
        top, left = i * stride[0], j * stride[1]
        result[:, :, top : top + kernel[0], left : left + kernel[1]] += np.tensordot(x[:, :, i, j], weight, 1)
    return result[:, :, padding : height - padding, padding : width - padding] + bias[:, None, None]


def pooled(x, grid):
    height, width = x.shape[2:]
    rows, columns = min(grid, height), min(grid, width)
    result = np.empty((*x.shape[:2], rows, columns))
    for i, j in np.ndindex(rows, columns):
        down = slice(i * height // rows, math.ceil((i + 1) * height / rows))
        across = slice(j * width // columns, math.ceil((j + 1) * width / columns))
        result[:, :, i, j] = x[:, :, down, across].max((2, 3))
    return result


def weights(layer):
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def encoded_image(net, x):
    convolutions, norms = layers(net, nn.Conv2d), layers(net, nn.BatchNorm2d)
    for index, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True)):
        stride = 2 if index in (0, 5) else 1
        x = normed(leaky(convolved(x, *weights(convolution), (stride, stride), (1, 1))), norm)
        if index == 4:
            x = pooled(x, 8)
    return x.max((2, 3))


def decoded_image(net, z, sides):
    first, *rest = layers(net, nn.ConvTranspose2d)
    x = spread(z[:, :, None, None], *weights(first), (1, 1), 0)
    for norm, layer, power in zip(layers(net, nn.BatchNorm2d), rest, (8, 4, 2, 1), strict=True):
        # the map that comes out is 1 / power of the image, but at least 2
        stride = [2 if side / power > 2 else 1 for side in sides]
        x = spread(normed(leaky(x), norm), *weights(layer), stride, 1)
        assert x.shape[2:] == tuple(max(2, math.ceil(side / power)) for side in sides)
    return np.tanh(x)


def encoded_window(net, x):
    x = x[:, :, None]  # an image one pixel high
    for convolution, norm in zip(layers(net, nn.Conv1d), layers(net, nn.BatchNorm1d), strict=True):
        weight, bias = weights(convolution)
        x = normed(leaky(convolved(x, weight[:, :, None], bias, (1, 2), (0, 2))), norm)
    return x.max((2, 3))


@settings(max_examples=12, deadline=None)
@given(small_images, st.integers(1, 6), st.integers(0, 2**31))
@example((1, 8, 8), 3, 0)
@example((2, 15, 33), 3, 0)
def test_image_encoder(shape, latent_dim, seed):
    x = normal((3, *shape), seed)
    net = settled(ImageEncoder, shape, latent_dim, x, seed)
    np.testing.assert_allclose(net(x).detach(), encoded_image(net, x.numpy()), rtol=1e-9, atol=1e-11)


@settings(max_examples=12, deadline=None)
@given(small_images, st.integers(1, 6), st.integers(0, 2**31))
@example((1, 8, 8), 3, 0)
@example((2, 15, 33), 3, 0)
@example((1, 8, 36), 3, 0)
@example((2, 17, 16), 3, 0)
def test_image_decoder(shape, latent_dim, seed):
    z = normal((3, latent_dim), seed)
    net = settled(ImageDecoder, shape, latent_dim, z, seed)
    np.testing.assert_allclose(net(z).detach(), decoded_image(net, z.numpy(), shape[1:]), rtol=1e-9, atol=1e-11)


@settings(max_examples=12, deadline=None)
@given(windows, latent_dims, st.integers(0, 2**31))
@example((1, 16), 3, 0)
def test_series_encoder(shape, latent_dim, seed):
    x = normal((3, *shape), seed)
    net = settled(SeriesEncoder, shape, latent_dim, x, seed)
    np.testing.assert_allclose(net(x).detach(), encoded_window(net, x.numpy()), rtol=1e-9, atol=1e-11)


@settings(max_examples=25, deadline=None)
@given(latent_dims, st.integers(1, 12), st.integers(0, 2**31))
def test_pseudo_classifier(latent_dim, n_clusters, seed):
    net, z = PseudoClassifier(latent_dim, n_clusters).double(), normal((4, latent_dim), seed)
    w, b, v, c = (p.detach().numpy() for p in net.parameters())
    assert w.shape == (25, latent_dim)
    expected = [[v[k] @ leaky(w @ point + b) + c[k] for k in range(n_clusters)] for point in z.numpy()]
    np.testing.assert_allclose(net(z).detach(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "shape"), [("conv", (2, 9, 12)), ("window", (3, 20)), ("mlp", (7,))])
def test_an_autoencoder_encodes_and_then_decodes(name, shape):
    net, x = build_autoencoder(name, shape, 4).eval(), torch.randn(3, *shape)
    assert isinstance(net, Autoencoder)
    assert torch.equal(net(x), net.decoder(net.encoder(x)))
    assert len(list(net.parameters())) == len(list(net.encoder.parameters())) + len(list(net.decoder.parameters()))


# There and back


def assert_there_and_back(net, shape, latent_dim):
    x = torch.randn(2, *shape)
    latents = net.encoder(x)
    assert latents.shape == (2, latent_dim)
    rebuilt = net.decoder(latents)
    assert rebuilt.shape == x.shape
    assert rebuilt.isfinite().all()
    return rebuilt


@settings(max_examples=20, deadline=None)
@given(images, latent_dims)
@example((1, 8, 8), 20)
@example((3, 8, 128), 5)
@example((3, 128, 128), 5)
@example((4, 9, 127), 5)
def test_images_of_any_size_there_and_back_within_the_range_of_tanh(shape, latent_dim):
    net = build_autoencoder("conv", shape, latent_dim)
    assert assert_there_and_back(net, shape, latent_dim).abs().max() <= 1
    assert net.decoder.eval()(1e4 * torch.randn(2, latent_dim)).abs().max() <= 1


@settings(max_examples=15, deadline=None)
@given(windows, latent_dims)
@example((1, 16), 1)
def test_windows_of_any_length_there_and_back(shape, latent_dim):
    assert_there_and_back(build_autoencoder("auto", shape, latent_dim), shape, latent_dim)


@settings(max_examples=8, deadline=None)
@given(st.tuples(st.integers(1, 50)), latent_dims)
def test_vectors_there_and_back(shape, latent_dim):
    assert_there_and_back(build_autoencoder("auto", shape, latent_dim), shape, latent_dim)


@pytest.mark.parametrize("shape", [(1, 7, 7), (1, 130, 30), (6, 15), (2, 3, 2, 3)])
def test_mlp_takes_what_the_others_refuse(shape):
    assert_there_and_back(build_autoencoder("mlp", shape, 7), shape, 7)


@pytest.mark.parametrize(
    ("shape", "encoder", "decoder"),
    [
        ((3, 8, 8), MLPEncoder, MLPDecoder),
        ((3, 11, 300), MLPEncoder, MLPDecoder),
        ((3, 300, 11), MLPEncoder, MLPDecoder),
        ((1, 2, 2), MLPEncoder, MLPDecoder),
        ((3, 12, 12), ImageEncoder, ImageDecoder),
        ((1, 28, 28), ImageEncoder, ImageDecoder),
        ((6, 50), SeriesEncoder, WindowDecoder),
        ((9,), MLPEncoder, MLPDecoder),
    ],
)
def test_auto_goes_by_the_shape(shape, encoder, decoder):
    net = build_autoencoder("auto", shape, 3)
    assert isinstance(net.encoder, encoder)
    assert isinstance(net.decoder, decoder)
    assert_there_and_back(net, shape, 3)


@pytest.mark.parametrize(("name", "shape"), [("conv", (1, 12, 12)), ("window", (2, 20)), ("mlp", (9,))])
def test_it_learns_to_rebuild(name, shape):
    with torch_stream(0, "autoencoder weights"):
        net, x = build_autoencoder(name, shape, 8), torch.rand(16, *shape) * 2 - 1
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    found = []
    for _ in range(12):
        loss = (net(x) - x).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(loss.item())
    assert found[-1] < 0.7 * found[0]


# Sizes

ENCODER = [(4, 2), (8, 1), (16, 1), (32, 1), (64, 1), (128, 2), (256, 1)]  # width, stride


@pytest.mark.parametrize(("channels", "side", "latent_dim"), [(1, 28, 50), (1, 16, 20), (3, 32, 50)])
def test_image_encoder_has_the_widths_and_strides_of_the_authors_program(channels, side, latent_dim):
    net = ImageEncoder((channels, side, side), latent_dim)
    convolutions = layers(net, nn.Conv2d)
    assert [(c.out_channels, *c.stride) for c in convolutions] == [(w, s, s) for w, s in [*ENCODER, (latent_dim, 1)]]
    assert {(*c.kernel_size, *c.padding) for c in convolutions} == {(3, 3, 1, 1)}
    assert [p.output_size for p in layers(net, nn.AdaptiveMaxPool2d)] == [(8, 8), 1]
    assert [type(layer) for layer in net if type(layer) is not nn.AdaptiveMaxPool2d] == [
        *[nn.Conv2d, nn.LeakyReLU, nn.BatchNorm2d] * 8,
        nn.Flatten,
    ]
    assert {a.negative_slope for a in layers(net, nn.LeakyReLU)} == {0.3}
    widths = [channels, 4, 8, 16, 32, 64, 128, 256, latent_dim]
    expected = sum((9 * a + 1) * b + 2 * b for a, b in pairwise(widths))
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.parametrize(
    ("side", "latent_dim", "maps", "kernels", "strides"),
    [
        (28, 50, [2, 4, 7, 14, 28], [2, 4, 3, 4, 4], [1, 2, 2, 2, 2]),
        (8, 20, [2, 2, 2, 4, 8], [2, 3, 3, 4, 4], [1, 1, 1, 2, 2]),
        (9, 20, [2, 2, 3, 5, 9], [2, 3, 3, 3, 3], [1, 1, 2, 2, 2]),
        (16, 20, [2, 2, 4, 8, 16], [2, 3, 4, 4, 4], [1, 1, 2, 2, 2]),
        (17, 20, [2, 3, 5, 9, 17], [2, 3, 3, 3, 3], [1, 2, 2, 2, 2]),
        (128, 50, [8, 16, 32, 64, 128], [8, 4, 4, 4, 4], [1, 2, 2, 2, 2]),
    ],
)
def test_image_decoder_has_the_sizes_that_it_says(side, latent_dim, maps, kernels, strides):
    net, found = ImageDecoder((1, side, side), latent_dim).eval(), []
    convolutions = layers(net, nn.ConvTranspose2d)
    for layer in convolutions:
        layer.register_forward_hook(lambda _, __, out: found.append(out.shape[1:]))
    net(torch.randn(2, latent_dim))
    assert found == [(width, m, m) for width, m in zip([256, 128, 64, 32, 1], maps, strict=True)]
    assert [c.kernel_size for c in convolutions] == [(k, k) for k in kernels]
    assert [c.stride for c in convolutions] == [(s, s) for s in strides]
    assert [type(layer) for layer in net] == [
        nn.Unflatten,
        *[nn.ConvTranspose2d, nn.LeakyReLU, nn.BatchNorm2d] * 4,
        nn.ConvTranspose2d,
        nn.Tanh,
    ]
    assert [b.num_features for b in layers(net, nn.BatchNorm2d)] == [256, 128, 64, 32]  # none before the tanh
    assert {a.negative_slope for a in layers(net, nn.LeakyReLU)} == {0.3}
    widths = [latent_dim, 256, 128, 64, 32, 1]
    convolved = sum(k * k * a * b + b for k, (a, b) in zip(kernels, pairwise(widths), strict=True))
    assert sum(p.numel() for p in net.parameters()) == convolved + 2 * (256 + 128 + 64 + 32)


def test_sides_have_kernels_of_their_own():
    kernels = [c.kernel_size for c in layers(ImageDecoder((1, 28, 31), 4), nn.ConvTranspose2d)]
    assert kernels == [(2, 2), (4, 4), (3, 4), (4, 4), (4, 3)]  # maps 4x4, 7x8, 14x16, 28x31


def test_sides_have_strides_of_their_own():
    convolutions = layers(ImageDecoder((1, 8, 31), 4), nn.ConvTranspose2d)  # maps 2x2, 2x4, 2x8, 4x16, 8x31
    assert [c.kernel_size for c in convolutions] == [(2, 2), (3, 4), (3, 4), (4, 4), (4, 3)]
    assert [c.stride for c in convolutions] == [(1, 1), (1, 2), (1, 2), (2, 2), (2, 2)]


@pytest.mark.parametrize(("shape", "grid"), [((1, 8, 8), (4, 4)), ((1, 8, 40), (4, 8)), ((1, 15, 11), (8, 6))])
def test_the_grid_is_no_finer_than_the_map(shape, grid):
    assert layers(ImageEncoder(shape, 4), nn.AdaptiveMaxPool2d)[0].output_size == grid


def test_series_encoder_has_the_sizes_that_it_says():
    net = SeriesEncoder((117, 512), 50)
    convolutions = layers(net, nn.Conv1d)
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(117, 32), (32, 64), (64, 128), (128, 50)]
    assert {(*c.kernel_size, *c.stride) for c in convolutions} == {(5, 2)}
    assert [type(layer) for layer in net] == [
        *[nn.Conv1d, nn.LeakyReLU, nn.BatchNorm1d] * 4,
        nn.AdaptiveMaxPool1d,
        nn.Flatten,
    ]
    assert {a.negative_slope for a in layers(net, nn.LeakyReLU)} == {0.3}
    expected = sum((5 * a + 1) * b + 2 * b for a, b in [(117, 32), (32, 64), (64, 128), (128, 50)])
    assert sum(p.numel() for p in net.parameters()) == expected


def test_pseudo_classifier_has_a_hidden_layer_of_25():
    assert sum(p.numel() for p in PseudoClassifier(50, 10).parameters()) == (50 + 1) * 25 + (25 + 1) * 10


@pytest.mark.parametrize(
    ("shape", "latent_dim"),
    [
        ((1, 16, 16), 20),  # USPS
        ((1, 28, 28), 50),  # MNIST, FashionMNIST
        ((1, 8, 8), 20),  # digits
        ((3, 16, 16), 20),  # channels do not count
        ((1, 16, 17), 50),
        ((3, 32, 32), 50),
        ((256,), 20),
        ((257,), 50),
        ((4, 64), 20),
        ((9, 128), 50),
    ],
)
def test_default_latent_dim(shape, latent_dim):
    assert default_latent_dim(shape) == latent_dim


# Weights


@pytest.mark.parametrize(
    ("name", "shape"),
    [("conv", (1, 8, 8)), ("conv", (3, 8, 30)), ("conv", (1, 16, 16)), ("window", (3, 16)), ("mlp", (4,))],
)
def test_every_weight_gets_a_gradient(name, shape):
    net = build_autoencoder(name, shape, 5).eval()  # in training, batch norm takes the biases before it out again
    (net(torch.randn(8, *shape)) * torch.randn(8, *shape)).sum().backward()
    assert [key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def assert_every_tap_of_every_kernel_gets_a_gradient(name, shape):
    with torch_stream(0, "autoencoder weights"):
        net, x, slope = build_autoencoder(name, shape, 5).eval(), torch.randn(8, *shape), torch.randn(8, *shape)
    (net(x) * slope).sum().backward()
    taps = {key: p.grad.abs().amax((0, 1)) for key, p in net.named_parameters() if p.ndim > 2}
    assert [key for key, grad in taps.items() if not grad.all()] == []


@pytest.mark.parametrize(
    ("name", "shape"), [("conv", (1, 28, 28)), ("conv", (2, 17, 40)), ("window", (3, 17)), ("window", (3, 40))]
)
def test_every_tap_of_every_kernel_gets_a_gradient(name, shape):
    assert_every_tap_of_every_kernel_gets_a_gradient(name, shape)


@pytest.mark.parametrize("side", range(8, 129))
def test_every_tap_of_every_kernel_gets_a_gradient_at_any_side(side):
    assert_every_tap_of_every_kernel_gets_a_gradient("conv", (1, side, min(side, 40)))
    assert_every_tap_of_every_kernel_gets_a_gradient("conv", (1, 8, side))


def test_every_weight_of_the_pseudo_classifier_gets_a_gradient():
    net = PseudoClassifier(5, 3)
    (net(torch.randn(8, 5)) * torch.randn(8, 3)).sum().backward()
    assert all(p.grad.all() for p in net.parameters())


@pytest.mark.parametrize(("name", "shape"), [("conv", (1, 8, 8)), ("window", (2, 16)), ("mlp", (3,))])
def test_the_stream_decides_the_weights(name, shape):
    def weights(purpose, member=0):
        with torch_stream(0, purpose, member=member):
            return nn.utils.parameters_to_vector(build_autoencoder(name, shape, 4).parameters())

    torch.rand(1)
    first = weights("autoencoder weights")
    assert torch.equal(weights("autoencoder weights"), first)
    assert not torch.equal(weights("autoencoder weights", member=1), first)
    assert not torch.equal(weights("other weights"), first)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-3), (torch.float64, 1e-9)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 17, 40)])
def test_channels_last_changes_nothing_but_rounding(shape, training, dtype, rtol):
    with torch_stream(0, "autoencoder weights"):
        net, x = build_autoencoder("conv", shape, 6).to(dtype).train(training), torch.randn(16, *shape, dtype=dtype)
    latents, rebuilt = net.encoder(x).detach(), net(x).detach()
    net = net.to(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(net.encoder(x).detach(), latents, rtol=rtol, atol=rtol / 10)
    torch.testing.assert_close(net(x).detach(), rebuilt, rtol=rtol, atol=rtol / 10)


# Refusals


@pytest.mark.parametrize(
    ("name", "shape", "cure"),
    [
        ("conv", (1, 7, 28), "Resize the images, or use encoder='mlp'"),
        ("conv", (1, 28, 7), "Resize the images, or use encoder='mlp'"),
        ("conv", (1, 129, 28), "Resize the images, or use encoder='mlp'"),
        ("conv", (1, 28, 129), "Resize the images, or use encoder='mlp'"),
        ("conv", (28, 28), "use encoder='mlp'"),
        ("conv", (64,), "use encoder='mlp'"),
        ("conv", (1, 0, 0), "Resize the images, or use encoder='mlp'"),
        ("auto", (3, 256, 256), "Resize the images, or use encoder='mlp'"),
        ("window", (6, 15), "Use encoder='mlp', or longer windows"),
        ("window", (6,), "Use encoder='mlp'"),
        ("window", (1, 28, 28), "Use encoder='mlp'"),
        ("auto", (6, 15), "Use encoder='mlp', or longer windows"),
        ("auto", (1, 2, 3, 4), "Reshape the data"),
        ("auto", (), "Reshape the data"),
    ],
)
def test_data_that_a_network_cannot_take(name, shape, cure):
    with pytest.raises(DataError, match=cure) as caught:
        build_autoencoder(name, shape, 4)
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize(
    ("block", "shape"),
    [(ImageEncoder, (1, 7, 8)), (ImageDecoder, (1, 8, 129)), (SeriesEncoder, (3, 15)), (WindowDecoder, (3, 15))],
)
def test_the_blocks_refuse_for_themselves(block, shape):
    with pytest.raises(DataError, match="encoder='mlp'"):
        block(shape, 4)


def test_unknown_autoencoder():
    with pytest.raises(
        UnknownNameError,
        match=r"unknown autoencoder 'cnov'\. Did you mean 'conv'\? Known: auto, conv, linear, mlp, window\.",
    ):
        build_autoencoder("cnov", (1, 28, 28), 4)
