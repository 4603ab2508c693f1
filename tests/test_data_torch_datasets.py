from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, Subset, TensorDataset

from distclust import load
from distclust.errors import DataError, ParameterError

X = torch.arange(24, dtype=torch.float32).reshape(6, 4)
Y = torch.tensor([2, 0, 2, 5, 0, 2])


class Items(TorchDataset[Any]):
    """A dataset of given items that counts how often each is asked for."""

    def __init__(self, *items: Any) -> None:
        self.items, self.asked = items, [0] * len(items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        self.asked[index] += 1
        return self.items[index]


def test_classes_are_taken_only_when_asked_for() -> None:
    data = load(TensorDataset(X, Y))
    np.testing.assert_array_equal(data.x, X)
    assert (data.name, data.y, data.n_clusters) == ("TensorDataset", None, None)
    with_classes = load(TensorDataset(X, Y), labels=True)
    assert with_classes.y is not None
    assert (with_classes.y.tolist(), with_classes.n_clusters) == ([1, 0, 1, 2, 0, 1], 3)
    assert load(Subset(TensorDataset(X, Y), [1, 3]), n_samples=1).x.shape == (1, 4)


def test_each_item_is_fetched_once() -> None:
    items = Items(*X)
    load(items)
    assert items.asked == [1] * 6


def test_what_items_may_be() -> None:
    grey, colour = np.arange(30, dtype=np.uint8).reshape(6, 5), np.arange(90, dtype=np.uint8).reshape(6, 5, 3)
    data = load(Items((Image.fromarray(grey), 0), (Image.fromarray(grey), 1)))
    assert (data.x.shape, data.x.dtype, data.value_range) == ((2, 1, 6, 5), np.uint8, (0, 255))
    assert load(Items(Image.fromarray(colour))).x.shape == (1, 3, 6, 5)
    assert load(Items(torch.zeros(3, 4, 5), torch.ones(3, 4, 5))).x.shape == (2, 3, 4, 5)
    assert load(Items(torch.zeros(3, 16, requires_grad=True))).x.shape == (1, 3, 16)
    assert load(Items(torch.zeros(3, 16)), kind="images").x.shape == (1, 1, 3, 16)
    assert load(Items([1, 2.5, 3], [4, 5, 6.5])).x.tolist() == [[1, 2.5, 3], [4, 5, 6.5]]
    assert load(Items(np.array([1, 2]), np.array([3, 4]))).x.dtype == np.float64
    named = load(Items(([1.0], "b"), ([2.0], "a")), labels=True)
    assert named.y is not None
    assert named.y.tolist() == [1, 0]


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield torch.zeros(3)


class Faulty(Items):
    def __getitem__(self, index: int) -> Any:
        raise FileNotFoundError("7.png")


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        (Endless(), {}, "Endless has no length; give a map-style"),
        (Items(), {}, "Items has no items"),
        (Faulty(1), {}, r"item 0 cannot be had \(FileNotFoundError\('7.png'\)\)"),
        (Items(torch.zeros(3), torch.zeros(4)), {}, r"item 1 is \(4,\) float32, those before are \(3,\)"),
        (Items({"x": 1}), {}, "item 0 is dict, from which no array of numbers comes"),
        (Items("text"), {}, "item 0 is str"),
        (Items(torch.tensor(1.0)), {}, "item 0 is Tensor"),
        (Items(torch.zeros(1, 2, 3, 4)), {}, "must be vectors"),
        (Items(X[0]), {"labels": True}, "item 0 has no class"),
        (Items((X[0], X[1])), {"labels": True}, "Items: "),
        (Items((X[0], None)), {"labels": True}, "Items: "),
        (Items(([[1, 2], [3]], 0)), {}, "item 0 is no array"),
    ],
)
def test_refused(dataset: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(dataset, **options)


def test_options_that_cannot_be_used() -> None:
    with pytest.raises(ParameterError, match="labels is 'folders'"):
        load(TensorDataset(X), labels="folders")
    with pytest.raises(ParameterError, match="unknown option 'size'"):
        load(TensorDataset(X), size=3)


def test_arrays_need_no_loading(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Arrays need no loading"):
        load(X)  # type: ignore[arg-type]
