"""VGG4 and ResNet-18: shapes, sizes, torchvision's own network, and weights from files of all the known namings."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18, resnet34

from distclust.errors import DataError
from distclust.nets import VGG4, ResNet18
from distclust.seeding import torch_stream

SHAPES = [(1, 8, 8), (1, 16, 16), (1, 28, 28), (1, 32, 32), (3, 32, 32), (2, 33, 20), (3, 96, 96)]
SMALL, LARGE = (3, 16, 16), (3, 65, 70)
TRUNK_SIZE = 11_689_512 - (512 * 1000 + 1000)  # of torchvision's resnet18, without its fully connected layer


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
@pytest.mark.parametrize("net", [VGG4, ResNet18])
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


@pytest.mark.parametrize("shape", [(3, 65, 65), (3, 96, 80), (3, 300, 65)])
def test_resnet_for_large_images_is_torchvisions(shape):
    theirs = made(resnet18)
    theirs.fc = nn.Identity()
    ours = made(ResNet18, shape)
    assert size(ours) == size(theirs) == TRUNK_SIZE
    assert equal(ours.state_dict(), theirs.state_dict())  # the same stream gives the same weights
    x = images(shape)
    for training in (True, False):
        torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(3, 64, 64), (3, 64, 300), (3, 300, 64), (3, 8, 8)])
def test_resnet_for_small_images_has_the_small_stem(shape):
    net = made(ResNet18, shape)
    assert (net.conv1.kernel_size, net.conv1.stride, net.conv1.padding) == ((3, 3), (1, 1), (1, 1))
    assert net.conv1.bias is None
    assert isinstance(net.maxpool, nn.Identity)
    assert size(net) == TRUNK_SIZE - 64 * 3 * (49 - 9)
    assert nn.Sequential(*list(net)[:4])(images(shape, 1)).shape == (1, 64, *shape[1:])


@pytest.mark.parametrize("shape", [(1, 32, 32), (5, 80, 80)])
def test_resnet_takes_any_number_of_channels(shape):
    net = made(ResNet18, shape)
    taps = 9 if shape[1] <= 64 else 49
    assert net.conv1.weight.shape[1] == shape[0]
    spread = (2 / (64 * taps)) ** 0.5  # torchvision's, by fan-out
    assert float(net.conv1.weight.detach().std()) == pytest.approx(spread, rel=0.1)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 20), LARGE])
@pytest.mark.parametrize("net", [VGG4, ResNet18])
def test_every_weight_gets_a_gradient(net, shape):
    built = made(net, shape)
    x = images(shape, 4)
    (built(x) * torch.randn(4, built.out_dim)).sum().backward()
    assert [name for name, p in built.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("net", [VGG4, ResNet18])
def test_the_stream_decides_the_weights(net):
    torch.rand(1)
    first = made(net, SMALL).state_dict()
    assert equal(made(net, SMALL).state_dict(), first)
    assert not equal(made(net, SMALL, member=1).state_dict(), first)


@pytest.mark.parametrize("shape", [(1, 7, 28), (1, 28, 7), (28, 28), (64,), ()])
@pytest.mark.parametrize("net", [VGG4, ResNet18])
def test_data_that_a_network_cannot_take(net, shape):
    with pytest.raises(DataError, match="larger images") as caught:
        net(shape)
    assert str(shape) in str(caught.value)


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


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth", "weights"])
@pytest.mark.parametrize(
    "prefix", ["", "module.", "backbone.", "encoder.", "encoder_q.", "module.encoder_q.", "encoder.module."]
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


def test_weights_of_torchvision_for_large_images(tmp_path):
    theirs = made(resnet18, member=7)
    ours = ResNet18(LARGE, weights=written(tmp_path, theirs.state_dict()))
    theirs.fc = nn.Identity()
    x = images(LARGE)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=0, atol=0)


def test_weights_in_the_home_folder(tmp_path, state, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path, state)
    assert equal(ResNet18(SMALL, weights="~/weights.pt").state_dict(), state)


def refused(path, shape=SMALL):
    with pytest.raises(DataError) as caught:
        ResNet18(shape, weights=path)
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
    assert "it has layer1.2.conv1.weight, layer1.2.bn1.weight, layer1.2.bn1.bias and" in message
    assert "beyond ResNet-18" in message


def test_weights_for_images_of_another_size(tmp_path, state):
    message = refused(written(tmp_path, resnet18().state_dict()), SMALL)
    assert "is 7x7, that of ResNet-18 for images of shape (3, 16, 16) is 3x3" in message
    assert "at most 64 pixels" in message
    assert "is 3x3, that of ResNet-18 for images of shape (3, 65, 70) is 7x7" in refused(
        written(tmp_path, state), LARGE
    )
