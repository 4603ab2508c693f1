"""The trunks of residual networks: ResNet-18 and ResNet-34, also with weights from a file, and a small one."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distclust.errors import DataError

_MIN_SIDE = 8  # pixels
_MAX_SMALL_SIDE = 64  # pixels, up to which images count as small
_STEM_WIDTH, _OUT_DIM = 64, 512
_FIRST = "conv1.weight"
_OPTIONAL = "num_batches_tracked"  # missing in files of old versions of torch; no output depends on it
_PREFIXES = ("module", "backbone", "encoder", "encoder_q")
_PREFIX = re.compile(rf"(({'|'.join(_PREFIXES)})\.)*")
_WRAPPERS = ("state_dict", "model")  # where checkpoints keep the weights beside optimiser and epoch
_BLOCK = re.compile(r"layer([1-4])\.(\d+)\.")  # stage and number within it
_SHOWN = 3  # names in a message


class ResNet(nn.Sequential):
    """What `ResNet18` and `ResNet34` share: the network up to and with its average pooling (He et al., CVPR 2016).

    It is torchvision's, with its names and its initial weights. Images whose smaller side is at most 64 pixels meet a
    3x3 convolution of stride 1 and no max-pool first, as CIFAR's do in MiCE (*MiCE: Mixture of Contrastive Experts*,
    ICLR 2021, Appendix D) and in the program of SCAN, larger ones a 7x7 convolution of stride 2 and a max-pool.

    Args:
        in_shape: (C, H, W), sides of at least 8 pixels.
        weights: file of trained weights, .safetensors or one that `torch.load` reads without running code. Names are
            torchvision's, all with the same prefix from "module.", "backbone.", "encoder." and "encoder_q.", or
            several of them, or none; SCAN's "shortcut" counts as "downsample". What is no part of the trunk is left
            out, as the fully connected layer and projection heads are. None: random weights from torch's global stream.

    Attributes:
        depth: number of layers with weights, as in the network's name.
        in_shape: as given.
        out_dim: number of features, 512.

    Raises:
        DataError: the data are no such images; the file cannot be read or its weights do not fit.
    """

    depth: int
    out_dim: int = _OUT_DIM

    def __init__(self, in_shape: tuple[int, ...], weights: str | os.PathLike[str] | None = None) -> None:
        from torchvision.models import get_model

        name = f"resnet{self.depth}"
        channels, small = _channels(name, in_shape), min(in_shape[1:]) <= _MAX_SMALL_SIDE
        layers = OrderedDict(get_model(name, weights=None).named_children())
        del layers["fc"]
        if small:
            layers["conv1"] = _convolution(nn.Conv2d(channels, _STEM_WIDTH, 3, padding=1, bias=False))
            layers["maxpool"] = nn.Identity()
        elif channels != 3:
            layers["conv1"] = _convolution(nn.Conv2d(channels, _STEM_WIDTH, 7, stride=2, padding=3, bias=False))
        super().__init__(OrderedDict(layers, flatten=nn.Flatten()))
        self.in_shape = in_shape
        if weights is not None:
            self.read(weights)

    def read(self, weights: str | os.PathLike[str]) -> None:
        """Take up the weights of a file; see `weights` above."""
        path = Path(os.path.expanduser(os.fspath(weights)))
        self.load_state_dict(_fitting(_trunk(_read(path), path, self), path, self))


class ResNet18(ResNet):
    """ResNet-18: four stages of two blocks; arguments as for `ResNet`."""

    depth = 18


class ResNet34(ResNet):
    """ResNet-34: four stages of three, four, six and three blocks, the trunk of MiCE; arguments as for `ResNet`."""

    depth = 34


class SmallResNet(nn.Sequential):
    """A residual network for CPUs: as `ResNet` for small images, with one block a stage and fewer and narrower stages.

    3x3 convolution of stride 1 - batch norm - ReLU, one of torchvision's basic blocks a stage, the second and further
    ones at stride 2, average pool. Initial weights are drawn as torchvision's, from torch's global stream.

    Args:
        in_shape: (C, H, W), sides of at least 8 pixels.
        widths: channels of each stage, at least one, each >= 1; the first is that of the convolution before them too.

    Attributes:
        out_dim: number of features, the last width.

    Raises:
        DataError: the data are no such images.
    """

    out_dim: int

    def __init__(self, in_shape: tuple[int, ...], widths: tuple[int, ...] = (16, 32, 64)) -> None:
        from torchvision.models.resnet import BasicBlock

        channels, first = _channels("small-resnet", in_shape), widths[0]
        layers: list[nn.Module] = [
            nn.Conv2d(channels, first, 3, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
            BasicBlock(first, first),
        ]
        for a, b in pairwise(widths):
            shortcut = nn.Sequential(nn.Conv2d(a, b, 1, stride=2, bias=False), nn.BatchNorm2d(b))
            layers.append(BasicBlock(a, b, stride=2, downsample=shortcut))
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                _convolution(layer)
        self.out_dim = widths[-1]


def _convolution(layer: nn.Conv2d) -> nn.Conv2d:
    """Return the layer with initial weights as torchvision's ResNet draws them."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def _channels(name: str, in_shape: tuple[int, ...]) -> int:
    if len(in_shape) != 3 or min(in_shape[1:]) < _MIN_SIDE:
        raise DataError(
            f"network {name!r} got data points of shape {in_shape}; it takes images (channels, height, width) with "
            f"sides of at least {_MIN_SIDE} pixels. Use a network for the data's shape, or larger images."
        )
    return in_shape[0]


# Weights from a file


def _read(path: Path) -> dict[str, Tensor]:
    """Return all the tensors of a file by their names."""
    from safetensors.torch import load_file

    try:
        found = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except FileNotFoundError as error:
        raise DataError(f"there is no file of weights {path}; give the path of one, or weights=None.") from error
    except Exception as error:  # torch, zipfile, pickle and safetensors each have errors of their own for a bad file
        reason = str(error).partition(". ")[0]  # torch goes on to advise running the code in the file
        raise DataError(
            f"{path} cannot be read as weights ({type(error).__name__}: {reason}). Give a .safetensors file, or one "
            f"that torch.save wrote and that holds tensors and plain values alone."
        ) from error
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def _unpickled(path: Path) -> Mapping[str, Any]:
    found = torch.load(path, map_location="cpu", weights_only=True)
    for key in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping):
        raise TypeError(f"it holds a {type(found).__name__}, no table of tensors by name")
    return {str(name): value for name, value in found.items()}


def _trunk(found: Mapping[str, Tensor], path: Path, net: ResNet) -> dict[str, Tensor]:
    """Return the tensors that stand under the prefix of the first convolution, without the prefix."""
    prefixes = [name.removesuffix(_FIRST) for name in found if name.endswith(_FIRST)]
    prefixes = [prefix for prefix in prefixes if _PREFIX.fullmatch(prefix)]
    if len(prefixes) != 1:
        many = f"{len(prefixes)} tensors named {_FIRST}, after {_named([repr(prefix) for prefix in prefixes])}"
        none = f"no {_FIRST} among its {len(found)} tensors" + (f" ({_named(list(found))})" if found else "")
        raise DataError(
            f"{path} holds {many if prefixes else none}. The names of one ResNet-{net.depth} are expected as "
            f"torchvision has them, from {_FIRST} on, as they are or all after one of the prefixes "
            f"{', '.join(_PREFIXES)}. Rename the tensors, or give another file."
        )
    trunk = {name.removeprefix(prefixes[0]): value for name, value in found.items() if name.startswith(prefixes[0])}
    return {name.replace(".shortcut.", ".downsample."): value for name, value in trunk.items()}  # SCAN's name


def _fitting(found: Mapping[str, Tensor], path: Path, net: ResNet) -> dict[str, Tensor]:
    """Return the tensors that the network has, after checking that all are there and nothing more of the trunk."""
    expected: dict[str, Tensor] = net.state_dict()
    layers = {name.split(".")[0] for name in expected}
    missing = [name for name in expected if name not in found and not name.endswith(_OPTIONAL)]
    surplus = [name for name in found if name not in expected and name.split(".")[0] in layers]
    wrong = {name: value for name, value in found.items() if name in expected and value.shape != expected[name].shape}
    if _FIRST in wrong and found[_FIRST].shape[2:] != expected[_FIRST].shape[2:]:
        raise DataError(_other_stem(found[_FIRST], expected[_FIRST], path, net))
    faults = []
    if _blocks(found) != _blocks(expected):
        faults.append(f"its stages have {_blocks(found)} blocks instead of {_blocks(expected)}")
    if missing:
        faults.append(f"it lacks {_named(missing)}")
    if surplus:
        faults.append(f"it has {_named(surplus)} beyond ResNet-{net.depth}")
    if wrong:
        told = [
            f"{name} of shape {tuple(value.shape)} for {tuple(expected[name].shape)}" for name, value in wrong.items()
        ]
        faults.append(f"it has {_named(told)}")
    if faults:
        raise DataError(
            f"{path} does not fit ResNet-{net.depth} for images of shape {net.in_shape}: {'; '.join(faults)}. Weights "
            f"of torchvision's resnet{net.depth} for as many channels are expected. Give another file, or weights=None."
        )
    return {name: value for name, value in found.items() if name in expected}


def _other_stem(found: Tensor, expected: Tensor, path: Path, net: ResNet) -> str:
    given, taken = ("x".join(map(str, weight.shape[2:])) for weight in (found, expected))
    return (
        f"the first convolution in {path} is {given}, that of ResNet-{net.depth} for images of shape {net.in_shape} is "
        f"{taken}: 3x3 where the smaller side is at most {_MAX_SMALL_SIDE} pixels, else 7x7. Give weights trained on "
        f"images of such a size, resize the images, or use weights=None."
    )


def _blocks(names: Iterable[str]) -> str:
    """Return how many blocks each stage has, from names such as layer1.0.conv1.weight."""
    blocks = {match.groups() for name in names if (match := _BLOCK.match(name))}
    return ", ".join(str(sum(stage == block[0] for block in blocks)) for stage in "1234")


def _named(names: list[str]) -> str:
    """Return the first few names and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
