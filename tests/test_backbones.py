"""VGG4 and the residual networks: shapes, sizes, plain twins, and weights from files of all the known namings."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18, resnet34

from distclust.errors import DataError
from distclust.nets import VGG4, ResNet18, ResNet34, SmallResNet
from distclust.seeding import torch_stream

NETS = {VGG4: "vgg4", ResNet18: "resnet18", ResNet34: "resnet34", SmallResNet: "small-resnet"}
RESNETS = [(ResNet18, resnet18), (ResNet34, resnet34)]
SHAPES = [(1, 8, 8), (1, 16, 16), (1, 28, 28), (1, 32, 32), (3, 32, 32), (2, 33, 20), (3, 96, 96)]
SMALL, LARGE = (3, 16, 16), (3, 65, 70)
FC_SIZE = 512 * 1000 + 1000  # of torchvision's fully connected layer, which the trunks leave out
TRUNK_SIZES = {ResNet18: 11_689_512 - FC_SIZE, ResNet34: 21_797_672 - FC_SIZE}  # as torchvision's pages have them


def made(build, *args, member=0, **kwargs):
    with torch_stream(0, "backbone weights", member=member):
        return build(*args, **kwargs)


def images(shape, n=2):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


def size(net):
    return sum(p.numel() for p in net.parameters())


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# Shapes and layers


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("net", [VGG4, ResNet18, SmallResNet])
def test_images_of_any_size_become_features(net, shape):
    built = made(net, shape)
    features = built(images(shape))
    assert features.shape == (2, built.out_dim)
    assert features.isfinite().all()


@pytest.mark.parametrize(
    ("shape", "out_dim"),
    [((1, 8, 8), 512), ((1, 28, 28), 512), ((3, 32, 32), 512 * 2 * 2), ((3, 33, 20), 512 * 2), ((3, 96, 96), 512 * 36)],
)
def test_vgg4_has_the_features_of_its_last_map(shape, out_dim):
    assert made(VGG4, shape).out_dim == out_dim


def test_vgg4_is_four_stages():
    net = made(VGG4, (3, 32, 32))
    stage = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    assert [type(layer) for layer in net] == stage * 4 + [nn.Flatten]
    convolutions = [layer for layer in net if isinstance(layer, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(3, 64), (64, 128), (128, 256), (256, 512)]
    assert {(c.kernel_size, c.stride, c.padding, c.bias) for c in convolutions} == {((5, 5), (1, 1), (2, 2), None)}
    assert size(net) == sum(25 * a * b + 2 * b for a, b in [(3, 64), (64, 128), (128, 256), (256, 512)])


def drawn(convolution):
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def torchvisions(builder, shape):
    """Return torchvision's network with the stem that CIFAR's images get in the paper, where they are as small."""
    net = builder()
    if min(shape[1:]) <= 64:
        net.conv1 = drawn(nn.Conv2d(shape[0], 64, kernel_size=3, stride=1, padding=1, bias=False))
        net.maxpool = nn.Identity()
    elif shape[0] != 3:
        net.conv1 = drawn(nn.Conv2d(shape[0], 64, kernel_size=7, stride=2, padding=3, bias=False))
    net.fc = nn.Identity()
    return net


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 12, 66), (3, 65, 70), (1, 96, 96)])
@pytest.mark.parametrize(("net", "builder"), RESNETS)
def test_resnets_are_torchvisions(net, builder, shape):
    ours, theirs = made(net, shape), made(torchvisions, builder, shape)
    assert equal(ours.state_dict(), theirs.state_dict())  # the same stream gives the same weights
    x = images(shape)
    for training in (True, False):
        torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x), rtol=0, atol=0)


@pytest.mark.parametrize("net", TRUNK_SIZES)
def test_resnets_have_torchvisions_sizes(net):
    assert net.out_dim == 512
    assert size(net(LARGE)) == TRUNK_SIZES[net]
    assert size(net(SMALL)) == TRUNK_SIZES[net] - 64 * 3 * (49 - 9)


@pytest.mark.parametrize("shape", [(3, 64, 64), (3, 64, 300), (1, 300, 64), (2, 8, 8)])
def test_resnets_first_layers_keep_the_size_of_small_images(shape):
    assert nn.Sequential(*list(ResNet18(shape))[:4])(images(shape, 1)).shape == (1, 64, *shape[1:])


def plain_small_resnet(weights, x, n_stages):
    """Return what `SmallResNet` must, from its weights in their order, with the statistics of the batch."""
    left = iter(weights)

    def normed(x, stride=1):
        weight = next(left)
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        return F.batch_norm(x, None, None, next(left), next(left), training=True)

    x = normed(x).relu()
    for stage in range(n_stages):
        stride = 2 if stage else 1
        inner = normed(normed(x, stride).relu())
        x = (inner + (normed(x, stride) if stage else x)).relu()
    assert next(left, None) is None
    return x.mean((2, 3))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 12), (2, 33, 20)])
@pytest.mark.parametrize("widths", [(16, 32, 64), (5, 3), (4,), (2, 2, 2, 2, 2)])
def test_small_resnet_equals_its_layers_written_plainly(shape, widths):
    net, x = made(SmallResNet, shape, widths), images(shape, 4)
    found = net(x)
    assert found.shape == (4, net.out_dim) == (4, widths[-1])
    torch.testing.assert_close(found, plain_small_resnet(net.parameters(), x, len(widths)))


@pytest.mark.parametrize(("channels", "n_parameters"), [(1, 77_104), (3, 77_392)])
def test_small_resnet_has_three_stages_of_16_32_and_64(channels, n_parameters):
    net = SmallResNet((channels, 16, 16))
    norms = 2 * (3 * 16 + 3 * 32 + 3 * 64)
    first, second, third = 2 * 9 * 16**2, 9 * (16 * 32 + 32**2) + 16 * 32, 9 * (32 * 64 + 64**2) + 32 * 64
    assert size(net) == 9 * channels * 16 + first + second + third + norms == n_parameters
    maps = nn.Sequential(*list(net)[:-2])(images((channels, 16, 16)))
    assert maps.shape == (2, 64, 4, 4)


def test_small_resnet_starts_as_torchvisions_do():
    net = made(SmallResNet, SMALL, (64, 128, 256))
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is None
            spread = (2 / (layer.out_channels * layer.kernel_size[0] ** 2)) ** 0.5  # by fan-out
            assert float(layer.weight.detach().std()) == pytest.approx(spread, rel=0.05)
        if isinstance(layer, nn.BatchNorm2d):
            assert torch.equal(layer.weight, torch.ones(layer.num_features))
            assert not layer.bias.any()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 20), LARGE])
@pytest.mark.parametrize("net", [VGG4, ResNet18, SmallResNet])
def test_every_weight_gets_a_gradient(net, shape):
    built = made(net, shape)
    x = images(shape, 4)
    (built(x) * torch.randn(4, built.out_dim)).sum().backward()
    assert [name for name, p in built.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("net", NETS)
def test_the_stream_decides_the_weights(net):
    torch.rand(1)
    first = made(net, SMALL).state_dict()
    assert equal(made(net, SMALL).state_dict(), first)
    assert not equal(made(net, SMALL, member=1).state_dict(), first)


@pytest.mark.parametrize("shape", [(1, 7, 28), (1, 28, 7), (28, 28), (64,), ()])
@pytest.mark.parametrize("net", NETS)
def test_data_that_a_network_cannot_take(net, shape):
    with pytest.raises(DataError, match="larger images") as caught:
        net(shape)
    assert f"network '{NETS[net]}' got data points of shape {shape}; it takes images (channels" in str(caught.value)


# Weights from files


@pytest.fixture(scope="module")
def state():
    """A state for small images, no value of which is an initial one."""
    net = made(ResNet18, SMALL, member=7)
    net.train()(images(SMALL, 8))
    return net.state_dict()


def written(folder, state, name="weights.pt", wrapped=None):
    path = folder / name
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state if wrapped is None else wrapped, path)
    return path


PREFIXES = ["", "module.", "backbone.", "encoder.", "encoder_q.", "module.encoder_q.", "encoder.module."]


@pytest.mark.parametrize(
    ("prefix", "name"),
    [(prefix, "weights.pth") for prefix in PREFIXES] + [("", "weights"), ("module.", "weights.safetensors")],
)
def test_weights_of_all_namings(tmp_path, state, prefix, name):
    path = written(tmp_path, {prefix + key: value for key, value in state.items()}, name)
    assert equal(ResNet18(SMALL, weights=path).state_dict(), state)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_weights_inside_a_checkpoint(tmp_path, state, key):
    prefixed = {f"module.{name}": value for name, value in state.items()}
    path = written(tmp_path, None, wrapped={"epoch": 3, key: prefixed, "optimizer": {"lr": 0.1}})
    assert equal(ResNet18(SMALL, weights=str(path)).state_dict(), state)


@pytest.mark.parametrize("prefix", ["", "module.encoder_q."])
def test_what_is_no_part_of_the_trunk_is_left_out(tmp_path, state, prefix):
    heads = ["fc.weight", "fc.bias", "fc.0.weight", "projection.0.weight", "projection_head.weight"]
    heads += ["contrastive_head.0.weight", "contrastive_head.2.bias"]
    file = {prefix + name: value for name, value in state.items()}
    file |= {prefix + name: torch.zeros(3) for name in heads}
    file |= {
        "contrastive_head.0.weight": torch.ones(2),
        "module.encoder_k.conv1.weight": torch.ones(3),
        "queue": torch.ones(1),
    }
    assert equal(ResNet18(SMALL, weights=written(tmp_path, file)).state_dict(), state)


def test_weights_of_scan(tmp_path, state):
    file = {f"backbone.{name.replace('downsample', 'shortcut')}": value for name, value in state.items()}
    file |= {"contrastive_head.0.weight": torch.ones(512, 512), "contrastive_head.0.bias": torch.ones(512)}
    assert sum("shortcut" in name for name in file) == 3 * 6
    assert equal(ResNet18(SMALL, weights=written(tmp_path, file)).state_dict(), state)


def test_weights_of_an_old_torch_have_no_counts_of_batches(tmp_path, state):
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    found = ResNet18(SMALL, weights=written(tmp_path, old)).state_dict()
    assert equal({name: found[name] for name in old}, old)


@pytest.mark.parametrize(("net", "builder"), RESNETS)
def test_weights_of_torchvision_for_large_images(tmp_path, net, builder):
    theirs = made(builder, member=7)
    ours = net(LARGE, weights=written(tmp_path, theirs.state_dict()))
    theirs.fc = nn.Identity()
    x = images(LARGE)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=0, atol=0)


def test_weights_of_resnet34_for_small_images(tmp_path):
    trained = made(ResNet34, (1, 8, 8), member=7).state_dict()
    file = {f"module.encoder_q.{name}": value for name, value in trained.items()}
    net = made(ResNet34, (1, 8, 8))
    assert not equal(net.state_dict(), trained)
    net.read(written(tmp_path, None, wrapped={"state_dict": file | {"module.encoder_q.fc.bias": torch.ones(128)}}))
    assert equal(net.state_dict(), trained)


def test_weights_in_the_home_folder(tmp_path, state, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path, state)
    assert equal(ResNet18(SMALL, weights="~/weights.pt").state_dict(), state)


def refused(path, shape=SMALL, net=ResNet18):
    with pytest.raises(DataError) as caught:
        net(shape, weights=path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["none.pt", "none.safetensors"])
def test_a_missing_file(tmp_path, name):
    assert "give the path of one, or weights=None" in refused(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["bad.pt", "bad.safetensors", "empty.pt", "empty.safetensors", "folder", "folder.safetensors"]
)
def test_a_file_that_cannot_be_read(tmp_path, name):
    path = tmp_path / name
    if name.startswith("folder"):
        path.mkdir()
    else:
        path.write_bytes(b"no weights here" * name.startswith("bad"))
    message = refused(path)
    assert "cannot be read as weights" in message
    assert "weights_only" not in message


class Opened:
    """An object that would run code while it is unpickled."""

    def __reduce__(self):
        return print, ("code ran",)


def test_a_file_that_would_run_code(tmp_path, capsys):
    assert "cannot be read as weights" in refused(written(tmp_path, {"conv1.weight": Opened()}))
    assert "code ran" not in capsys.readouterr().out


def test_a_file_without_a_table_of_tensors(tmp_path):
    assert "it holds a list" in refused(written(tmp_path, [1, 2]))
    assert "no conv1.weight among its 0 tensors." in refused(written(tmp_path, {"epoch": 3}))


def test_weights_of_unknown_names(tmp_path, state):
    for prefix in ("student.", "x", "module.student.", "modulex."):
        message = refused(written(tmp_path, {prefix + name: value for name, value in state.items()}))
        assert f"no conv1.weight among its {len(state)} tensors ({prefix}conv1.weight, " in message
        assert "Rename the tensors" in message


def test_weights_of_two_networks(tmp_path, state):
    file = {prefix + name: value for prefix in ("backbone.", "encoder.") for name, value in state.items()}
    assert "2 tensors named conv1.weight, after 'backbone.', 'encoder.'" in refused(written(tmp_path, file))


def test_missing_weights(tmp_path, state):
    file = {name: value for name, value in state.items() if not name.startswith("layer4.1.")}
    message = refused(written(tmp_path, file))
    assert "it lacks layer4.1.conv1.weight, layer4.1.bn1.weight, layer4.1.bn1.bias and 7 more." in message
    assert "Give another file, or weights=None" in message


def test_weights_of_a_wrong_shape(tmp_path, state):
    file = state | {"bn1.weight": torch.ones(63), "layer1.0.bn2.bias": torch.ones(64, 1)}
    message = refused(written(tmp_path, file))
    assert "it has bn1.weight of shape (63,) for (64,), layer1.0.bn2.bias of shape (64, 1) for (64,)." in message


def test_weights_for_other_channels(tmp_path, state):
    message = refused(written(tmp_path, state), (1, 16, 16))
    assert "conv1.weight of shape (64, 3, 3, 3) for (64, 1, 3, 3)" in message
    assert "as many channels" in message


def test_weights_of_a_deeper_resnet(tmp_path):
    message = refused(written(tmp_path, resnet34().state_dict()), LARGE)
    assert "its stages have 3, 4, 6, 3 blocks instead of 2, 2, 2, 2" in message
    assert "it has layer1.2.conv1.weight, layer1.2.bn1.weight, layer1.2.bn1.bias and" in message
    assert "beyond ResNet-18" in message


def test_weights_of_resnet18_for_resnet34(tmp_path, state):
    message = refused(written(tmp_path, state), net=ResNet34)
    assert "does not fit ResNet-34 for images of shape (3, 16, 16): its stages have 2, 2, 2, 2 blocks " in message
    assert "blocks instead of 3, 4, 6, 3; it lacks layer1.2.conv1.weight, layer1.2.bn1.weight, " in message
    assert "Weights of torchvision's resnet34" in message


def test_messages_about_weights_name_resnet34(tmp_path, state):
    assert "that of ResNet-34 for images of shape (3, 65, 70) is 7x7" in refused(
        written(tmp_path, state), LARGE, ResNet34
    )
    unknown = written(tmp_path, {f"student.{name}": value for name, value in state.items()})
    assert "The names of one ResNet-34 are expected" in refused(unknown, net=ResNet34)


def test_weights_for_images_of_another_size(tmp_path, state):
    message = refused(written(tmp_path, resnet18().state_dict()), SMALL)
    assert "is 7x7, that of ResNet-18 for images of shape (3, 16, 16) is 3x3" in message
    assert "at most 64 pixels" in message
    assert "is 3x3, that of ResNet-18 for images of shape (3, 65, 70) is 7x7" in refused(
        written(tmp_path, state), LARGE
    )
