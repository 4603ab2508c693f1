"""Standard image sets, from <name>.npz or by torchvision."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distclust.contracts import Array
from distclust.data.arrays import known_classes
from distclust.data.files import Part, arranged, choose_split, data_folder, part_classes, read_parts, value_range
from distclust.data.options import Options
from distclust.data.points import Points
from distclust.errors import DataError, ParameterError, is_given, option

SUPERCLASSES: dict[str, tuple[str, ...]] = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
"""CIFAR-100's twenty superclasses of five classes each, as its authors publish them, both in alphabetical order."""


@dataclass(frozen=True)
class Standard:
    """A standard image set.

    Args:
        torchvision: its class in torchvision.datasets.
        n_clusters: number of classes in the files.
        labels: the attribute of torchvision's object that holds the classes.
        by_split: whether torchvision's constructor takes split="train", rather than train=True.
    """

    torchvision: str
    n_clusters: int
    labels: str = "targets"
    by_split: bool = False


STANDARD = {
    "cifar10": Standard("CIFAR10", 10),
    "cifar100": Standard("CIFAR100", 100),
    "cifar100-20": Standard("CIFAR100", 100),
    "fashion-mnist": Standard("FashionMNIST", 10),
    "mnist": Standard("MNIST", 10),
    "stl10": Standard("STL10", 10, labels="labels", by_split=True),
    "svhn": Standard("SVHN", 10, labels="labels", by_split=True),
    "usps": Standard("USPS", 10),
}


def standard(name: str, options: Options) -> Points:
    """Return the points of a standard image set, (N, C, H, W) as stored.

    Args:
        name: a key of STANDARD.
        options: split, data_dir and, for stl10, unlabelled.

    Raises:
        DataError: the data is neither there nor to be had, or the file cannot be used.
        ParameterError: unlabelled images were asked for in the test split.
    """
    wanted = _wanted(options)
    folder = data_folder(options["data_dir"])
    parts = _read(name, folder, wanted)
    xs = {part: _images(parts[part].x, name) for part in wanted}
    ys = [known_classes(part_classes(parts[part]), len(xs[part]), STANDARD[name].n_clusters) for part in wanted]
    x, _ = choose_split(xs, None, "all")
    y, n_clusters = np.concatenate(ys), STANDARD[name].n_clusters
    if name == "cifar100-20":
        y, n_clusters = np.where(y < 0, -1, superclass_table()[y]), len(SUPERCLASSES)
    return Points(np.ascontiguousarray(x), y, n_clusters, value_range(x))


def superclass_table() -> Array:
    """Return (100,) int64: the superclass of each of CIFAR-100's classes, both counted in alphabetical order."""
    home = {fine: index for index, (_, members) in enumerate(SUPERCLASSES.items()) for fine in members}
    return np.array([home[fine] for fine in sorted(home)], dtype=np.int64)


def plain(name: str) -> str:
    """Return a name without what is forgiven in it: case, '-', '_' and blanks."""
    return "".join(letter for letter in name.casefold() if letter not in "-_ ")


def _wanted(options: Options) -> list[str]:
    """Return the names of the parts that make up the split, in order."""
    if not options.get("unlabelled"):
        return ["train", "test"] if options["split"] == "all" else [options["split"]]
    if options["split"] == "test":
        raise ParameterError(
            [
                f"{is_given('unlabelled', True)}; the test split has no unlabelled images: use "
                f"{option('split', 'all')} or {option('split', 'train')}."
            ]
        )
    return [*(["train", "test"] if options["split"] == "all" else ["train"]), "unlabelled"]


def _read(name: str, folder: Path, wanted: list[str]) -> dict[str, Part]:
    path = _file(name, folder)
    if path is None:
        return {part: _torchvision(name, part, folder) for part in wanted}
    parts = read_parts(path)
    missing = [f"x_{part}" for part in wanted if part not in parts]
    missing += [f"y_{part}" for part in wanted if part in parts and part != "unlabelled" and parts[part].y is None]
    if missing:
        raise DataError(
            f"{path} has no {', '.join(missing)}. Add it, or move the file away so that torchvision gets the data."
        )
    return parts


def _file(name: str, folder: Path) -> Path | None:
    """Return <name>.npz in the folder; for cifar100-20 the file of cifar100, whose classes tell the superclasses."""
    stem = plain("cifar100" if name == "cifar100-20" else name)
    files = sorted(folder.glob("*.npz")) if folder.is_dir() else []
    return next((path for path in files if plain(path.stem) == stem), None)


def _torchvision(name: str, part: str, folder: Path) -> Part:
    """Return what torchvision has, finds in the folder or downloads into it."""
    entry = STANDARD[name]
    where: dict[str, Any] = {"split": part.replace("labelled", "labeled")} if entry.by_split else {}
    where = where or {"train": part == "train"}
    there = folder.exists()
    try:
        import torchvision.datasets

        data = getattr(torchvision.datasets, entry.torchvision)(root=str(folder), download=True, **where)
    except Exception as error:  # network, archive, checksum, folder: each has errors of its own
        stem = "cifar100" if name == "cifar100-20" else name
        if not there:
            _delete_empty(folder)
        raise DataError(
            f"{name} was looked for as {stem}.npz and in torchvision's own files in {folder}, and could not be "
            f"downloaded to there: {type(error).__name__}: {error}. Put {stem}.npz there, with the arrays x_train, "
            f"y_train, x_test and y_test, or torchvision's files; or name another folder with "
            f"{option('data_dir')} or the environment variable DISTCLUST_DATA; or allow the download."
        ) from error
    return Part(np.asarray(data.data), np.asarray(getattr(data, entry.labels)))


def _delete_empty(folder: Path) -> None:
    """Delete a folder and those in it as far as they are empty."""
    for path in [*sorted(folder.rglob("*"), reverse=True), folder]:
        with contextlib.suppress(OSError):  # it is a file, or holds one
            path.rmdir()


def _images(x: Array, name: str) -> Array:
    try:
        return arranged(x, kind="images")
    except DataError as error:
        raise DataError(error.message.after(f"{name}: ")) from error
