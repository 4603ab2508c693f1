"""Trials on data: training on corrupted labels (figure 11), and two ways to renew pseudo-labels (figure 12).

The first is the one place in distclust where a network is trained on classes: a supervised demonstration of a loss. No
clusterer sees those classes. Equations are those of *Discriminative entropy clustering and its relation to K-means and
SVM*, submitted to TPAMI, 2024.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from distclust.contracts import Array, Dataset, Labels
from distclust.errors import DataError
from distclust.seeding import generator, torch_stream

if TYPE_CHECKING:
    from torch import Tensor, nn

    from distclust.methods.entropy import EntropyMember

LAMBDA = 100.0  # of figure 12

FEATURES, _BATCH_SIZE, _LEARNING_RATE = 128, 250, 1e-3  # of figure 11
_MIN_EPOCHS, _MIN_STEPS = 30, 1500
_MIN_PER_CLASS = 10  # points of figures 11 and 12


# Robustness to label noise, figure 11: supervised


def corrupted_labels(classes: Labels, share: float, n_clusters: int, rng: np.random.Generator) -> Labels:
    """Return classes (N,) of which a share was drawn anew, uniformly over all K classes."""
    labels = classes.copy()
    chosen = rng.permutation(len(labels))[: round(share * len(labels))]
    labels[chosen] = rng.integers(n_clusters, size=len(chosen))
    return labels


def soft_targets(labels: Labels, share: float, n_clusters: int) -> Array:
    """Return eta u + (1 - eta) y for observed labels (N,), (N, K) float32; eta is the share of corrupted ones."""
    return (share / n_clusters + (1 - share) * np.eye(n_clusters)[labels]).astype(np.float32)


class NoiseTrial(NamedTuple):
    """Test accuracy, 0 .. 1, after training on corrupted labels, at the last epoch."""

    share: float
    seed: int
    reverse: float  # of H(sigma, y)
    forward: float  # of H(y, sigma)


def noise_trial(data: Dataset, share: float, seed: int) -> NoiseTrial:
    """Train a network with either cross-entropy on the same corrupted labels, and test it on a clean fifth.

    Both have the same initial weights and the same batches. The targets are the paper's, eta u + (1 - eta) y.

    Args:
        data: with classes; points of unknown class are left out.
        share: eta, the share of labels that are drawn anew, 0 .. 1.
        seed: of all of it, >= 0.
    """
    import torch

    from distclust import losses
    from distclust.nets import Scaling

    x, classes, n_clusters = known_points(data)
    order = generator(seed, "held-out points").permutation(len(x))
    test, train = order[: len(x) // 5], order[len(x) // 5 :]
    labels = corrupted_labels(classes[train], share, n_clusters, generator(seed, "label noise"))
    targets = torch.from_numpy(soft_targets(labels, share, n_clusters))
    whole = torch.from_numpy(np.array(x))
    scaled = Scaling(x.shape[1:]).fit(whole[train], "auto")(whole)
    found = {}
    for name, loss in (("reverse", losses.reverse_cross_entropy), ("forward", losses.cross_entropy)):
        net = _trained(scaled[train], targets, loss, seed)
        with torch.no_grad():
            predicted = torch.cat([net(part) for part in scaled[test].split(4096)]).argmax(1).numpy()
        found[name] = float((predicted == classes[test]).mean())
    return NoiseTrial(share, seed, found["reverse"], found["forward"])


def _trained(x: Tensor, targets: Tensor, loss: Callable[[Tensor, Tensor], Tensor], seed: int) -> nn.Module:
    """Return a small network trained on soft targets (N, K), ready to predict."""
    import torch

    from distclust.methods.base import batches, n_batches
    from distclust.nets import build

    with torch_stream(seed, "network weights"):
        net = torch.nn.Sequential(build("auto", x.shape[1:], FEATURES), torch.nn.Linear(FEATURES, targets.shape[1]))
    optimiser = torch.optim.Adam(net.parameters(), lr=_LEARNING_RATE, fused=True)
    for epoch in range(max(_MIN_EPOCHS, math.ceil(_MIN_STEPS / n_batches(len(x), _BATCH_SIZE)))):
        for part in batches(generator(seed, "batch order", round=epoch).permutation(len(x)), _BATCH_SIZE):
            rows = torch.from_numpy(part)
            optimiser.zero_grad()
            loss(net(x[rows]), targets[rows]).backward()
            optimiser.step()
    return net.eval()


# Pseudo-labels once a batch or once an epoch, figure 12

Update = Literal["batch", "epoch"]


class UpdateTrial(NamedTuple):
    """Loss (42) after each epoch and the accuracy, 0 .. 1, after the last."""

    update: Update
    seed: int
    losses: tuple[float, ...]
    accuracy: float


def update_trial(data: Dataset, update: Update, seed: int, n_epochs: int) -> UpdateTrial:
    """Cluster with a linear classifier on the data as it is, with pseudo-labels made once a batch or once an epoch.

    Args:
        data: with classes, which measure the accuracy after training.
        update: "batch" or "epoch".
        seed: >= 0; both updates start from the same classifier at one seed.
        n_epochs: >= 1.
    """
    import torch

    from distclust.metrics import accuracy

    x, classes, n_clusters = known_points(data)
    method = _method(n_clusters, update, seed, n_epochs).checked(x)
    member, whole, found = method.member(x.shape[1:], 0), torch.from_numpy(np.array(x)), []
    for epoch in range(n_epochs):
        output = member.advance(whole, None, epoch)
        found.append(self_labelling_loss(member, whole))
    return UpdateTrial(update, seed, tuple(found), float(accuracy(output.labels, classes)))


def self_labelling_loss(member: EntropyMember, x: Tensor) -> float:
    """Return loss (42) of a member on all points (N, ...), at the best pseudo-labels for its predictions."""
    import torch

    from distclust import losses
    from distclust.assign import pseudo_labels_optimal

    member.net.eval()
    with torch.no_grad():
        logits = member.net(member.net.scaling(x)).double()  # (N, K)
        soft = pseudo_labels_optimal(logits.softmax(1), LAMBDA)
        even = torch.full((1, logits.shape[1]), 1 / logits.shape[1], dtype=logits.dtype)
        unfairness = losses.cross_entropy(soft.mean(0, keepdim=True).log(), even) - math.log(logits.shape[1])
        norm = member.net.head.weight.double().square().sum()
        found = member.recipe.gamma * norm + losses.reverse_cross_entropy(logits, soft) + LAMBDA * unfairness
    return float(found)


def _method(n_clusters: int, update: Update, seed: int, n_epochs: int) -> Any:
    from distclust.methods.entropy import EntropyClustering

    return EntropyClustering(
        n_clusters=n_clusters,
        loss="self-labelling",
        lam=LAMBDA,
        backbone="linear",
        start="random",
        update=update,
        n_epochs=n_epochs,
        n_rounds=n_epochs,
        random_state=seed,
    )


class KnownPoints(NamedTuple):
    """The points of a dataset whose class is known."""

    x: Array  # (N, ...)
    classes: Labels  # (N,) 0 .. K - 1
    n_clusters: int


def known_points(data: Dataset) -> KnownPoints:
    """Return the points whose class is known.

    Raises:
        DataError: there are none, of one class only, or fewer than ten a class.
    """
    y = data.y
    if y is None or not (y >= 0).any():
        raise DataError(f"{data.name} has no classes, and figures 11 and 12 need them; choose another --dataset.")
    n_clusters = max(int(y.max()) + 1, data.n_clusters or 0)
    if n_clusters < 2:
        raise DataError(f"{data.name} has one class, and figures 11 and 12 need at least 2; choose another --dataset.")
    x, classes = data.x[y >= 0], y[y >= 0]
    if len(x) < _MIN_PER_CLASS * n_clusters:
        raise DataError(
            f"{data.name} gives {len(x)} points of known class for {n_clusters} classes; figures 11 and 12 need "
            f"{_MIN_PER_CLASS} a class, {_MIN_PER_CLASS * n_clusters} together. Give a greater --n-samples, or leave "
            f"it out."
        )
    return KnownPoints(x, classes, n_clusters)
