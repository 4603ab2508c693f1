"""Discriminative entropy clustering and its rivals.

*Discriminative entropy clustering and its relation to K-means and SVM*, submitted to TPAMI, 2024. Equations, sections
and tables are the paper's.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, cast

import numpy as np
import torch
from pydantic import Field
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from distclust import assign, losses
from distclust.consensus import rename
from distclust.contracts import Agreement, Array, MemberOutput, Round, State
from distclust.data import views as image_views
from distclust.errors import ParameterError
from distclust.labelling import nearest_neighbours
from distclust.methods.base import (
    AUTO_ROUNDS,
    BLOCK,
    EnsembleClusterer,
    Rounds,
    batches,
    epochs_of_round,
    most_probable,
    n_batches,
    renaming,
    restore_optimiser,
    round_faults,
    share_faults,
)
from distclust.nets import VGG4, ResNet18, Scaling, ScalingName, build
from distclust.seeding import generator, integer, torch_generator, torch_stream

Loss = Literal[
    "self-labelling",
    "renyi",
    "mutual-information",
    "imsat",
    "iic",
    "sela",
    "miadm",
    "scan",
    "k-means",
    "seeds",
]

_MIN_STEPS = 2000  # optimiser steps that n_epochs="auto" makes sure of on small data
_TRUNK_DIM = 128  # features of the small networks, which have no width of their own
_SINKHORN_STEPS = 100
_SCAN_GAMMA = 1e-4  # the weight decay of its program; no prediction of a shorter head is confident enough
_RADIUS_NEIGHBOUR, _RADIUS_SHARE = 10, 0.25  # IMSAT: the radius is a quarter of the distance to the tenth neighbour
_START_WIDTH, _START_POINTS, _BIAS_STEPS = 4.0, 2_000, 200  # of start="fair"
# Of start="k-means". Rate and weight of the norm go with the data, so that neither unit nor dimension matters: decided
# on made-up mixtures and by the losses, see docs/log.md.
_CLUSTERED_POINTS, _CLUSTERINGS = 10_000, 3  # points that k-means sees, and its runs, of which the tightest is taken
_CONFIDENCE = 0.75  # mean probability of the nearest center at the start
_NORM_SHARE = 0.7  # of the weight of the norm at which the confidence would stay as it is
_RATE = 2.0  # against the scale of the logits
_CENTERED_STEPS, _CENTERED_EPOCHS = 200, 3  # optimizer steps at least, passes at least
_CENTERED = ("self-labelling", "renyi", "mutual-information", "sela", "miadm")  # losses that may start there
_LABELLED = ("self-labelling", "sela", "miadm")  # losses with pseudo-labels
_SUB_HEADS, _OVERCLUSTERS = 5, 5  # IIC: heads of each kind, and clusters of the second kind for each of K
_CYCLE = (True, True, False)  # IIC: epochs that train the heads of K clusters


class Recipe(NamedTuple):
    """What "auto" stands for with a backbone; Section 4, implementation details."""

    n_epochs: int
    learning_rate: float  # of the head
    trunk_learning_rate: float
    gamma: float


_ADAM = Recipe(50, 1e-4, 1e-4, 0.01)
_RECIPES = {"linear": Recipe(10, 0.1, 0.0, 0.01), "resnet18": Recipe(50, 0.1, 1e-5, 1e-4)}


def volume_balanced(probs: Tensor) -> Tensor:
    """Return soft labels proportional to p_ik / sqrt(sum_i p_ik), (N, K), for the loss of eq. (9).

    MIADM's approximate closed form (Jabi et al. 2019, after DEPICT, Ghasedi Dizaji et al. 2017). The optimum has y_ik
    proportional to p_ik / Y_k with Y_k = sum_i y_ik; without the normalisation of the rows, summing over i gives
    Y_k^2 proportional to sum_i p_ik.

    Args:
        probs: (N, K) predictions, rows sum to one.
    """
    weighted = probs / probs.sum(0).clamp(min=torch.finfo(probs.dtype).tiny).sqrt()
    return weighted / weighted.sum(1, keepdim=True)


def fair_bias(logits: Tensor, target: Literal["uniform"] | Sequence[float] = "uniform") -> Tensor:
    """Return the biases (K,) with which the mean prediction is the target.

    Args:
        logits: (N, K) without bias.
        target: u, K shares > 0 that sum to one, or "uniform".
    """
    n_clusters = logits.shape[1]
    shares = [1 / n_clusters] * n_clusters if target == "uniform" else target
    wanted = torch.tensor(shares, dtype=logits.dtype, device=logits.device).log()
    bias = torch.zeros_like(wanted)
    for _ in range(_BIAS_STEPS):
        bias = bias + 0.5 * (wanted - (logits + bias).log_softmax(1).logsumexp(0) + math.log(len(logits)))
    return bias


@dataclass(kw_only=True, eq=False, repr=False)
class EntropyClustering(EnsembleClusterer):
    """A softmax network that clusters by decisive and fair predictions, eq. (42), or one of its rivals.

    Args:
        n_clusters: number of clusters K, >= 2.
        n_members: number of members M; 1 is the paper's single model.
        agreement_threshold: share of the voting members that must agree for a point to count as agreed, in (0, 1].
        random_state: the seed; the same seed gives the same labels.
        loss: "self-labelling" is the paper's: reverse cross-entropy with pseudo-labels by EM, eq. (42). "renyi" has the
            decisiveness of order `alpha`, eq. (48). Rivals: "mutual-information" (MIGD: gradient descent on eq. (14)),
            "imsat", "iic" (five heads of K clusters, of which the one of the lowest loss predicts, and five of 5 K that
            are trained in every third epoch), "sela" (hard Sinkhorn labels, eq. (8)), "miadm" (eq. (12)), "scan"
            (neighbours alike, then labels of confident points in the second half), "k-means" (scikit-learn, on given
            features), "seeds" (the cross-entropy of the given labels alone).
        seeds: given labels, N integers 0 .. K - 1 with -1 for unknown, or the path of a .npy file of them; None = none.
            They are a user's input, never the dataset's own classes; Section 4.4.
        target: u, the expected share of every cluster, K numbers > 0 that sum to one, or "uniform".
        lam: lambda, weight of the fairness of the pseudo-labels, >= 0.
        gamma: weight of ||v||^2 of the last layer without its bias; "auto" is 0.0001 for "resnet18" and loss="scan",
            what the data ask for with a linear model that starts at k-means (see `CenteredStart`), else 0.01.
        alpha: order of the decisiveness for loss="renyi", > 0, or "infinite".
        pseudo_labels: "em" takes steps of EM until none moves by more than 0.001, "optimal" the optimum.
        update: pseudo-labels once a "batch" or once an "epoch" for all points; "auto" is what the method's own paper
            has: "epoch" for sela and miadm.
        backbone: "linear" on the data as features; for images "vgg4", "resnet18" or "conv", for windows "window", for
            vectors "mlp"; "auto" is "vgg4", "window" or "linear" by the data's shape, "resnet18" where `weights` are
            given and "linear" for loss="k-means".
        start: of the last layer. "random" is torch's; "fair" draws it four times as wide, so that it is decisive from
            the first step on, and sets its biases so that the mean prediction is the target: from a random start many
            clusters are empty before fairness can act. "k-means" takes the centers of k-means on the features, with
            logits so scaled that the nearest center has a probability of 0.75 in the mean. "auto" is "k-means" for
            "linear", where random hyperplanes in many dimensions cut the data anywhere, else "fair".
        n_starts: draws of the last layer for start="fair", of which the one of the lowest loss (14) is taken, >= 1.
        weights: file of trained weights for "resnet18", see `nets.ResNet18`; None = random ones.
        scaling: how raw values are scaled, see `nets.Scaling`; "auto" is "unit" where there are views, which need it,
            for vectors what `nets.choose_scaling` finds, else "standard".
        views: self-augmentation, eq. (7), by names of `data.views.VIEWS`; "auto" is flip, rotation and colour for
            images with a network, else none; none where another scaling than "unit" is given.
        n_views: views of each image, >= 1; the paper has two for vgg4 and one for resnet18.
        augmentation_weight: of eq. (7), >= 0.
        imsat_term: "virtual-adversarial" or "views"; "auto" is "views" where there are any.
        n_neighbors: of loss="scan", the nearest in the scaled data.
        n_epochs: passes over the data, or "auto": 10 for "linear", else 50 as in the paper, more on small data, for
            2,000 optimiser steps; from k-means 3, or more for 200 steps.
        n_rounds: labelings during training, evenly spread; at most n_epochs. "auto" is 5, or n_epochs where that is
            less.
        batch_size: points a batch.
        learning_rate: of the head: SGD's for "linear", else Adam's; "auto" is 0.1 for "linear" and "resnet18", else
            1e-4; for "linear" from k-means it goes with the scale of features and logits.
        trunk_learning_rate: of Adam for what is below the head; "auto" is 1e-5 for "resnet18", else 1e-4.

    Attributes: as in `EnsembleClusterer`.
    """

    shares_parameter = "target"
    most_rounds = 5

    loss: Annotated[Loss, Field(description="what is minimised")] = "self-labelling"
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=-1)], ...] | str | None, Field(description="given labels, -1 = unknown")
    ] = None
    target: Annotated[
        Literal["uniform"] | tuple[Annotated[float, Field(gt=0, le=1)], ...],
        Field(description="expected share of every cluster"),
    ] = "uniform"
    lam: Annotated[float, Field(ge=0, allow_inf_nan=False, description="weight of the fairness of pseudo-labels")] = (
        100.0
    )
    gamma: Annotated[
        Literal["auto"] | Annotated[float, Field(ge=0, allow_inf_nan=False)],
        Field(description="weight of the norm of the last layer"),
    ] = "auto"
    alpha: Annotated[
        Literal["infinite"] | Annotated[float, Field(gt=0, allow_inf_nan=False)],
        Field(description="order of the Renyi decisiveness"),
    ] = "infinite"
    pseudo_labels: Annotated[Literal["em", "optimal"], Field(description="how far pseudo-labels are solved")] = "em"
    update: Annotated[Literal["auto", "batch", "epoch"], Field(description="when pseudo-labels are made anew")] = "auto"
    backbone: Annotated[
        Literal["auto", "linear", "vgg4", "resnet18", "conv", "mlp", "window"], Field(description="network")
    ] = "auto"
    start: Annotated[Literal["auto", "k-means", "fair", "random"], Field(description="start of the last layer")] = (
        "auto"
    )
    n_starts: Annotated[int, Field(ge=1, description="draws of the last layer to start from")] = 10
    weights: Annotated[str | None, Field(description="file of trained weights of resnet18")] = None
    scaling: Annotated[
        Literal["auto", "unit", "standard", "center", "length", "none"], Field(description="how raw values are scaled")
    ] = "auto"
    views: Annotated[
        Literal["auto"] | tuple[str, ...], Field(description="self-augmentations, by names of data.views")
    ] = "auto"
    n_views: Annotated[int, Field(ge=1, description="views of each image")] = 2
    augmentation_weight: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="weight of the self-augmentation")
    ] = 1.0
    imsat_term: Annotated[
        Literal["auto", "virtual-adversarial", "views"], Field(description="what keeps IMSAT's predictions smooth")
    ] = "auto"
    n_neighbors: Annotated[int, Field(ge=1, description="neighbours of loss='scan'")] = 20
    n_epochs: Annotated[Literal["auto"] | Annotated[int, Field(ge=1)], Field(description="passes over the data")] = (
        "auto"
    )
    n_rounds: Annotated[Rounds, Field(description="labelings during training, evenly spread")] = AUTO_ROUNDS
    batch_size: Annotated[int, Field(ge=2, description="points a batch")] = 250
    learning_rate: Annotated[
        Literal["auto"] | Annotated[float, Field(gt=0, allow_inf_nan=False)], Field(description="of the head")
    ] = "auto"
    trunk_learning_rate: Annotated[
        Literal["auto"] | Annotated[float, Field(gt=0, allow_inf_nan=False)],
        Field(description="of what is below the head"),
    ] = "auto"

    def member(self, shape: tuple[int, ...], index: int, device: str = "cpu") -> EntropyMember:
        """Return a new member; see `contracts.Method`."""
        return EntropyMember(self, shape, index, device)

    def checked(self, x: Array) -> Self:
        """Return a copy with checked parameters, fit for the data, with the seeds read; see `EnsembleClusterer`."""
        if isinstance(self.seeds, str):
            return replace(self, seeds=_read_seeds(self.seeds)).checked(x)
        return super().checked(x)

    def agree(self, outputs: Sequence[MemberOutput], last: Round | None = None) -> Agreement:
        """Align the labellings and take their vote; given labels name the clusters."""
        agreement = super().agree(outputs, last)
        labels, seeds = agreement.labels, np.array(-1 if self.seeds is None else self.seeds)
        sure = (seeds >= 0) & (labels >= 0)
        if not sure.any():
            return agreement
        kept = rename(labels[sure], seeds[sure], self.n_clusters)
        names = np.append(renaming(labels[sure], kept, self.n_clusters), -1)  # its last is the name of "no label"
        return replace(agreement, labels=names[labels], aligned=names[agreement.aligned])

    def total_epochs(self, shape: tuple[int, ...], n_samples: int) -> int:
        """Return the number of epochs of the whole run."""
        if self.n_epochs != "auto":
            return self.n_epochs
        return max(self.n_rounds, self._auto_epochs(shape, n_samples))

    def _auto_epochs(self, shape: tuple[int, ...], n_samples: int) -> int:
        fewest, steps = _recipe(self, shape).n_epochs, _MIN_STEPS
        if _centered(self, shape):
            fewest, steps = _CENTERED_EPOCHS, _CENTERED_STEPS
        return max(fewest, math.ceil(steps / n_batches(n_samples, self.batch_size)))

    def _resolved(self, values: dict[str, Any], x: Array) -> dict[str, Any]:
        if values["n_epochs"] == "auto" and values["n_rounds"] == "auto":
            epochs = type(self)(**values)._auto_epochs(x.shape[1:], len(x))
            return {**values, "n_rounds": min(self.most_rounds, epochs)}
        return super()._resolved(values, x)

    def _faults(self, values: dict[str, Any], x: Array) -> list[str]:
        faults = super()._faults(values, x)
        backbone = _backbone(type(self)(**values), x.shape[1:])
        names = _views(values["views"], values["scaling"], backbone, x.shape[1:])
        for name in names:
            if name not in image_views.VIEWS:
                faults.append(f"views={values['views']!r} cannot be used: known are {', '.join(image_views.VIEWS)}.")
                break
        if names and (x.ndim != 4 or x.shape[1] not in (1, 3)):
            faults.append(
                f"views={values['views']!r} cannot be used: they are for images with 1 or 3 channels, the data points "
                f"are of shape {x.shape[1:]}. Give views=[]."
            )
        if values["start"] == "k-means" and values["loss"] not in _CENTERED:
            faults.append(
                f"start='k-means' cannot be used with loss={values['loss']!r}; it is for {', '.join(_CENTERED)}. Give "
                f"start='fair', or leave it out."
            )
        if names and values["scaling"] not in ("auto", "unit"):
            faults.append(f"scaling={values['scaling']!r} cannot be used with views. Give scaling='unit' or views=[].")
        if not names and (values["loss"] == "iic" or values["imsat_term"] == "views"):
            which = "loss='iic'" if values["loss"] == "iic" else "imsat_term='views'"
            faults.append(f"{which} compares views, and there are none. Give views=['flip', 'rotation', 'colour'].")
        if values["loss"] == "k-means" and backbone != "linear":
            faults.append(
                f"loss='k-means' cannot be used with backbone={backbone!r}: it trains no network. Give "
                f"backbone='linear', which clusters the data as they are."
            )
        if values["update"] != "auto" and values["loss"] not in _LABELLED:
            faults.append(f"update={values['update']!r} is for the losses with pseudo-labels: {', '.join(_LABELLED)}.")
        if values["weights"] is not None and backbone != "resnet18":
            faults.append(f"weights={values['weights']!r} are for backbone='resnet18', and it is {backbone!r}.")
        faults += share_faults("target", values) + round_faults(values) + _seed_faults(values, len(x))
        if not faults:
            with torch.device("meta"):  # refuses a shape that it cannot take, before any worker starts
                _trunk(backbone, x.shape[1:])
        return faults


class EntropyNet(nn.Module):
    """Scaling, trunk and the softmax layer: sigma(v^T f_w(X)) of eq. (4).

    Args:
        settings: the method's checked parameters.
        shape: shape of one data point.
        index: of the member, for its random streams.

    Attributes:
        heads: softmax layers of K clusters, one for all losses but IIC's.
        overclustering: those of more clusters, for IIC's alone.
        chosen: () int64, place of the head that predicts.
    """

    chosen: Tensor

    def __init__(self, settings: EntropyClustering, shape: tuple[int, ...], index: int) -> None:
        super().__init__()
        self.scaling = Scaling(shape)
        with torch_stream(settings.random_state, "network weights", member=index):
            self.trunk, width = _trunk(_backbone(settings, shape), shape)
            k, iic = settings.n_clusters, settings.loss == "iic"
            self.heads = nn.ModuleList(nn.Linear(width, k) for _ in range(_SUB_HEADS if iic else 1))
            self.overclustering = nn.ModuleList(nn.Linear(width, _OVERCLUSTERS * k) for _ in range(_SUB_HEADS * iic))
        self.register_buffer("chosen", torch.zeros((), dtype=torch.int64))

    @property
    def head(self) -> nn.Linear:
        """The head that predicts."""
        at = int(self.chosen) if len(self.heads) > 1 else 0  # reading it would make a GPU wait
        return cast(nn.Linear, self.heads[at])

    def trained(self, epoch: int) -> nn.ModuleList:
        """Return the heads that an epoch trains."""
        return self.heads if _CYCLE[epoch % len(_CYCLE)] or not len(self.overclustering) else self.overclustering

    def forward(self, scaled: Tensor) -> Tensor:
        """Return the logits (N, K) of scaled values (N, *shape)."""
        return self.head(self.trunk(scaled))

    def posterior(self, x: Tensor) -> Tensor:
        """Return the softmax of raw values (N, *shape), (N, K)."""
        return self(self.scaling(x)).softmax(1)


class Batch(NamedTuple):
    """What the losses are made of."""

    whole: Tensor  # (N, *shape) all raw values
    rows: Tensor  # (B,) places in them
    x: Tensor  # (B, *shape) scaled
    features: tuple[Tensor, ...]  # (B, D) of the points, then of each view
    logits: Tensor  # (B, K)
    views: tuple[Tensor, ...]  # logits (B, K) of each view
    seeds: Tensor | None  # (B,) given labels, -1 = unknown
    epoch: int
    noise: torch.Generator


class EntropyMember:
    """One softmax network and its optimiser.

    Args:
        settings: the method's checked parameters.
        shape: shape of one data point.
        index: of the member, for its random streams.
        device: where it computes.
    """

    def __init__(self, settings: EntropyClustering, shape: tuple[int, ...], index: int, device: str = "cpu") -> None:
        self.settings, self.shape, self.index, self.device = settings, shape, index, device
        self.recipe = _recipe(settings, shape)
        self.net = EntropyNet(settings, shape, index).to(device)
        if len(shape) == 3:
            self.net = self.net.to(memory_format=torch.channels_last)
        names = _views(settings.views, settings.scaling, _backbone(settings, shape), shape)
        self.view = image_views.compose(names) if names else None
        self.optimiser = self._new_optimiser()
        self.gamma = _gamma(settings, self.recipe)
        self.pseudo: Tensor | None = None  # (N, K) pseudo-labels of the epoch, where they are made once an epoch
        self._neighbours: Tensor | None = None
        self._radius: Tensor | None = None

    def advance(self, x: Tensor, agreed: Agreement | None, round: int) -> MemberOutput:
        """Train for one round and label all points by their greatest probability; `agreed` is not used."""
        if round == 0:
            self.net.scaling.fit(x, _scaling(self.settings, self.view, x))
            if self.settings.weights is not None:
                cast(ResNet18, self.net.trunk).read(self.settings.weights)  # a saved model does without the file
            start = _start(self.settings, self.shape)
            if start == "fair":
                self._fair_start(x)
            elif start == "k-means":
                self._centered_start(x)
        loss = self._k_means(x, round) if self.settings.loss == "k-means" else self._train(x, round)
        if len(self.net.heads) > 1:
            loss = self._choose_head(x, round)
        return most_probable(self._look(x), loss, x, self.net.scaling)

    def predict_proba(self, x: Tensor) -> Tensor:
        """Return the softmax, (N, K)."""
        return self._look(x.to(self.device)).double().cpu()

    def scaled(self, x: Tensor) -> Tensor:
        """Return raw values as the network sees them."""
        with torch.no_grad():
            return self.net.scaling(x.to(self.device)).cpu()

    def transform(self, x: Tensor) -> Tensor:
        """Return the features below the head, (N, D)."""
        self.net.eval()
        with torch.no_grad():
            return self.net.trunk(self.net.scaling(x.to(self.device))).cpu()

    def state_dict(self) -> State:
        """Return network, optimiser and the weight of the norm."""
        return {"net": self.net.state_dict(), "optimiser": self.optimiser.state_dict(), "gamma": self.gamma}

    def load_state_dict(self, state: State) -> None:
        """Take up a state that `state_dict` gave."""
        self.net.load_state_dict(state["net"])
        self.gamma = state.get("gamma", self.gamma)
        if "optimiser" in state:  # a saved model predicts and has none
            restore_optimiser(self.optimiser, state["optimiser"])

    def _new_optimiser(self) -> torch.optim.Optimizer:
        given, trunk = self.settings.learning_rate, self.settings.trunk_learning_rate
        rate = self.recipe.learning_rate if given == "auto" else given
        heads = [*self.net.heads.parameters(), *self.net.overclustering.parameters()]
        if not list(self.net.trunk.parameters()):
            weights, biases = [p for p in heads if p.ndim > 1], [p for p in heads if p.ndim == 1]
            return torch.optim.SGD([{"params": weights}, {"params": biases}], lr=rate)
        below = self.recipe.trunk_learning_rate if trunk == "auto" else trunk
        groups = [
            {"params": heads, "lr": rate},
            {"params": self.net.trunk.parameters(), "lr": below},
        ]
        return torch.optim.Adam(groups, fused=True)

    def _features_of_some(self, x: Tensor, n_points: int) -> tuple[Tensor, Tensor]:
        """Return the places of at most `n_points` points, ascending, and their features as training sees them."""
        settings = self.settings
        drawn = generator(settings.random_state, "points for the start", member=self.index).permutation(len(x))
        rows = torch.from_numpy(np.sort(drawn[:n_points])).to(x.device)
        self.net.train()
        with torch.no_grad(), _statistics_kept(self.net):
            parts = batches(np.arange(len(rows)), settings.batch_size)
            return rows, torch.cat([self.net.trunk(self.net.scaling(x[rows[at[0] : at[-1] + 1]])) for at in parts])

    def _centered_start(self, x: Tensor) -> None:
        """Start at the centers of k-means; a linear model takes rate and weight of the norm from the data too."""
        settings = self.settings
        rows, features = self._features_of_some(x, _CLUSTERED_POINTS)
        seed = integer(settings.random_state, "k-means for the start", member=self.index)
        centers = _centers(features, settings.n_clusters, seed)
        if settings.seeds is not None:
            seeds = torch.tensor(settings.seeds)[rows.cpu()].numpy()
            centers = centers[torch.from_numpy(_seeded_order(features, centers, seeds)).to(centers.device)]
        start = centered_start(features, centers)
        head = self.net.head
        with torch.no_grad():
            head.weight.copy_(start.weight)
            head.bias.copy_(start.bias)
        if _backbone(settings, self.shape) != "linear":
            return
        if settings.gamma == "auto":
            self.gamma = start.gamma
        if settings.learning_rate == "auto":
            for group, rate in zip(self.optimiser.param_groups, (start.weight_rate, start.bias_rate), strict=True):
                group["lr"] = rate

    def _fair_start(self, x: Tensor) -> None:
        """Take heads of the lowest loss (14) among some wide ones with fair biases, on at most 2,000 points."""
        settings = self.settings
        _, features = self._features_of_some(x, _START_POINTS)
        noise = torch_generator(settings.random_state, "heads to start from", member=self.index)
        with torch.no_grad():
            for head in self.net.heads:
                _start_fairly(cast(nn.Linear, head), features, settings.target, settings.n_starts, noise)
            for head in self.net.overclustering:
                _start_fairly(cast(nn.Linear, head), features, "uniform", settings.n_starts, noise)

    def _train(self, x: Tensor, round: int) -> float:
        """Run the round's epochs and return the mean loss; Algorithm 1."""
        settings, seed = self.settings, self.settings.random_state
        seeds = None if settings.seeds is None else torch.tensor(settings.seeds, device=self.device)
        total, steps = torch.zeros((), device=self.device), 0
        for epoch in epochs_of_round(settings.total_epochs(self.shape, len(x)), settings.n_rounds, round):
            noise = torch_generator(seed, "views", member=self.index, round=epoch, device=self.device)
            order = generator(seed, "batch order", member=self.index, round=epoch).permutation(len(x))
            self.pseudo = self._pseudo_labels_of_all(x, seeds) if self._once_an_epoch else None
            self.net.train()
            heads = [cast(nn.Linear, head) for head in self.net.trained(epoch)]
            for part in batches(order, settings.batch_size):
                rows = torch.from_numpy(part).to(self.device)
                batch = self._batch(x, rows, None if seeds is None else seeds[rows], epoch, noise)
                norm = torch.stack([head.weight.square().sum() for head in heads]).mean()
                loss = _LOSSES[settings.loss](self, batch) + self.gamma * norm
                if seeds is not None:
                    loss = loss + self._seeded(batch)
                if batch.views and settings.loss not in ("iic", "imsat", "seeds"):
                    loss = loss + settings.augmentation_weight * _alike(batch)
                self.optimiser.zero_grad()
                loss.backward()
                self.optimiser.step()
                total, steps = total + loss.detach(), steps + 1
        mean = float(total) / max(1, steps)
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the loss is not finite in round {round + 1}; lower learning_rate or check the scaling of the data"
            )
        return mean

    def _batch(self, x: Tensor, rows: Tensor, seeds: Tensor | None, epoch: int, noise: torch.Generator) -> Batch:
        scaled = self.net.scaling(x[rows.to(x.device)])
        shown = [] if self.view is None else [self.view(scaled, noise) for _ in range(self.settings.n_views)]
        features = self.net.trunk(torch.cat([scaled, *shown]))
        logits, *of_views = self.net.head(features).split(len(rows))
        return Batch(x, rows, scaled, features.split(len(rows)), logits, tuple(of_views), seeds, epoch, noise)

    def _seeded(self, batch: Batch) -> Tensor:
        """Return the cross-entropy of the points with given labels, Section 4.4; 0 where the batch has none."""
        assert batch.seeds is not None
        known = batch.seeds >= 0
        if not known.any():
            return batch.logits.sum() * 0
        features = batch.features[0][known]
        return torch.stack(
            [nn.functional.cross_entropy(head(features), batch.seeds[known]) for head in self.net.heads]
        ).mean()

    def _choose_head(self, x: Tensor, round: int) -> float:
        """Let the head of the lowest loss of IIC predict, and return that loss."""
        settings = self.settings
        noise = torch_generator(
            settings.random_state, "views for the choice", member=self.index, round=round, device=self.device
        )
        order = generator(settings.random_state, "points for the choice", member=self.index, round=round).permutation(
            len(x)
        )
        self.net.eval()
        sums = torch.zeros(len(self.net.heads), device=self.device)
        with torch.no_grad():
            for part in batches(order, settings.batch_size):
                batch = self._batch(x, torch.from_numpy(part).to(self.device), None, 0, noise)
                sums += _iic_of_heads(self.net.heads, batch) * len(part)
        self.net.chosen.copy_(sums.argmin())
        return float(sums.min()) / len(x)

    def _look(self, x: Tensor) -> Tensor:
        """Return the probabilities of all points, (N, K)."""
        self.net.eval()
        with torch.no_grad():
            return torch.cat([self.net.posterior(xb) for xb in x.split(BLOCK)])

    @property
    def _once_an_epoch(self) -> bool:
        update = self.settings.update
        return self.settings.loss in _LABELLED and (
            update == "epoch" or (update == "auto" and self.settings.loss != "self-labelling")
        )

    def _pseudo_labels_of_all(self, x: Tensor, seeds: Tensor | None) -> Tensor:
        return self._pseudo_labels(self._look(x), seeds)

    def _pseudo_labels(self, probs: Tensor, seeds: Tensor | None) -> Tensor:
        """Return the pseudo-labels of the loss for predictions (B, K); given labels stand fast."""
        settings = self.settings
        target = None if settings.target == "uniform" else settings.target
        if settings.loss == "self-labelling":
            solve = assign.pseudo_labels_em if settings.pseudo_labels == "em" else assign.pseudo_labels_optimal
            return solve(probs, settings.lam, target, known=seeds)
        if settings.loss == "sela":  # the transport plan at lambda = 25, made hard
            log_probs = probs.double().clamp(min=1e-30).log()
            plan = assign.sinkhorn(log_probs, 1 / 25, _SINKHORN_STEPS, target)
            soft = nn.functional.one_hot(plan.argmax(1), settings.n_clusters).to(probs.dtype)
        else:
            soft = volume_balanced(probs)
        if seeds is not None:
            soft[seeds >= 0] = nn.functional.one_hot(seeds[seeds >= 0], settings.n_clusters).to(soft.dtype)
        return soft

    def _of_batch(self, batch: Batch) -> Tensor:
        """Return the pseudo-labels of a batch, (B, K)."""
        if self.pseudo is not None:
            return self.pseudo[batch.rows]
        return self._pseudo_labels(batch.logits.detach().softmax(1), batch.seeds)

    def _k_means(self, x: Tensor, round: int) -> float:
        """Set the head to the centres of k-means: v_k = 2 c_k with bias -|c_k|^2 is greatest at the nearest centre.

        Returns:
            The mean squared distance to it.
        """
        from sklearn.cluster import KMeans

        features = torch.cat([self.transform(xb) for xb in x.split(BLOCK)]).double()
        if round == 0:
            seed = integer(self.settings.random_state, "k-means", member=self.index)
            found = KMeans(self.settings.n_clusters, n_init=10, random_state=seed).fit(features.numpy())
            centres = torch.from_numpy(found.cluster_centers_)
            with torch.no_grad():
                self.net.head.weight.copy_(2 * centres)
                self.net.head.bias.copy_(-centres.square().sum(1))
        head = self.net.head.cpu().double()
        nearest = head(features).amax(1).detach()
        self.net.head.to(self.device).float()
        return float((features.square().sum(1) - nearest).mean())

    def neighbours(self, x: Tensor) -> Tensor:
        """Return the nearest neighbours of every point without itself, (N, n_neighbors) int64."""
        if self._neighbours is None:
            found = nearest_neighbours(self._flat(x), min(self.settings.n_neighbors + 1, len(x)))
            self._neighbours = torch.from_numpy(found.indices[:, 1:].astype(np.int64)).to(self.device)
        return self._neighbours

    def radius(self, x: Tensor) -> Tensor:
        """Return IMSAT's radius of virtual adversarial training of every point, (N,)."""
        if self._radius is None:
            found = nearest_neighbours(self._flat(x), min(_RADIUS_NEIGHBOUR + 1, len(x)))
            self._radius = torch.from_numpy(_RADIUS_SHARE * found.distances[:, -1]).to(self.device)
        return self._radius

    def _flat(self, x: Tensor) -> Array:
        return np.concatenate([self.net.scaling(xb).flatten(1).cpu().numpy() for xb in x.split(BLOCK)])


# What is minimised on a batch, beside the norm of the head: one function a loss.


def _self_labelling(member: EntropyMember, batch: Batch) -> Tensor:
    """Eq. (42) without its constant; a point with a given label is left to the cross-entropy of the seeds."""
    labels = member._of_batch(batch)
    free = slice(None) if batch.seeds is None else batch.seeds < 0
    if not len(batch.logits[free]):
        return batch.logits.sum() * 0
    return losses.reverse_cross_entropy(batch.logits[free], labels[free])


def _forward(member: EntropyMember, batch: Batch) -> Tensor:
    """H(y, sigma) of eqs. (8) and (9), for sela and miadm."""
    return losses.cross_entropy(batch.logits, member._of_batch(batch))


def _renyi(member: EntropyMember, batch: Batch) -> Tensor:
    alpha = member.settings.alpha
    decisive = losses.decisiveness(batch.logits, math.inf if alpha == "infinite" else alpha)
    return decisive + losses.negative_marginal_entropy(batch.logits.softmax(1))


def _mutual_information(member: EntropyMember, batch: Batch) -> Tensor:
    return losses.negative_mutual_information(batch.logits)


def _imsat(member: EntropyMember, batch: Batch) -> Tensor:
    """R + 0.1 (H(sigma) - 4 H(mean sigma)), Hu et al. 2017, eq. (9) with the constants of the authors' program."""
    wanted = member.settings.imsat_term
    if wanted == "views" or (wanted == "auto" and batch.views):
        smooth = torch.stack([_divergence(batch.logits, other) for other in batch.views]).mean()
    else:
        with _statistics_kept(member.net):
            smooth = losses.virtual_adversarial(
                member.net, batch.x, member.radius(batch.whole)[batch.rows], batch.noise
            )
    return smooth + 0.1 * losses.negative_mutual_information(batch.logits, 4.0)


def _iic(member: EntropyMember, batch: Batch) -> Tensor:
    return _iic_of_heads(member.net.trained(batch.epoch), batch).mean()


def _iic_of_heads(heads: Iterable[nn.Module], batch: Batch) -> Tensor:
    """Return the loss of every head, the mean over the views, (number of heads,)."""
    points, *views = batch.features
    rows = [[losses.paired_mutual_information(head(points), head(view)) for view in views] for head in heads]
    return torch.stack([torch.stack(row).mean() for row in rows])


def _scan(member: EntropyMember, batch: Batch) -> Tensor:
    """Neighbours alike for the first half of the epochs, then the labels of confident points.

    Those are learned on views of them, as in SCAN; where there are none, on a neighbour of each.
    """
    later = batch.epoch >= member.settings.total_epochs(member.shape, len(batch.whole)) // 2
    if later and batch.views:
        strong = torch.cat(batch.views)
        return losses.confident_cross_entropy(strong, batch.logits.repeat(len(batch.views), 1))
    near = member.neighbours(batch.whole)[batch.rows]  # (B, n_neighbors)
    at = torch.randint(near.shape[1], (len(near), 1), generator=batch.noise, device=near.device)
    chosen = batch.whole[near.gather(1, at)[:, 0].to(batch.whole.device)]
    others = member.net(member.net.scaling(chosen))
    if later:
        return losses.confident_cross_entropy(others, batch.logits)
    return losses.neighbour_consistency(batch.logits, others)


def _seeds_alone(member: EntropyMember, batch: Batch) -> Tensor:
    return batch.logits.sum() * 0  # their cross-entropy is added to every loss


_LOSSES: dict[str, Callable[[EntropyMember, Batch], Tensor]] = {
    "self-labelling": _self_labelling,
    "renyi": _renyi,
    "mutual-information": _mutual_information,
    "imsat": _imsat,
    "iic": _iic,
    "sela": _forward,
    "miadm": _forward,
    "scan": _scan,
    "seeds": _seeds_alone,
}


def _alike(batch: Batch) -> Tensor:
    """Return eq. (7) over all pairs of an image and its views."""
    shown = (batch.logits, *batch.views)
    pairs = [(a, b) for i, a in enumerate(shown) for b in shown[i + 1 :]]
    return torch.stack([losses.symmetric_divergence(a, b) for a, b in pairs]).mean()


def _divergence(logits: Tensor, others: Tensor) -> Tensor:
    """Return the mean of KL(p || q), p of the points and without gradient, q of their views (Hu et al., eq. (3))."""
    log_p, log_q = logits.detach().log_softmax(1), others.log_softmax(1)
    return (log_p.exp() * (log_p - log_q)).sum(1).mean()


@contextlib.contextmanager
def _statistics_kept(net: nn.Module) -> Iterator[None]:
    """Run the block with batch norms that use the batch's statistics and leave the running ones alone."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def _start_fairly(
    head: nn.Linear,
    features: Tensor,
    target: Literal["uniform"] | Sequence[float],
    n_starts: int,
    noise: torch.Generator,
) -> None:
    """Give a head the weights and biases of the lowest loss (14) on features (n, D) among some draws."""
    reach = _START_WIDTH / head.in_features**0.5  # as torch draws, but wider
    found = []
    for _ in range(n_starts):
        weight = (reach * (2 * torch.rand(head.weight.shape, generator=noise) - 1)).to(features.device)
        logits = features @ weight.T
        bias = fair_bias(logits, target)
        found.append((float(losses.negative_mutual_information(logits + bias)), weight, bias))
    _, weight, bias = min(found, key=lambda start: start[0])
    head.weight.copy_(weight)
    head.bias.copy_(bias)


class CenteredStart(NamedTuple):
    """A linear softmax model at the centers of k-means, and how to train it from there; see `centered_start`."""

    weight: Tensor  # (K, D)
    bias: Tensor  # (K,)
    gamma: float
    weight_rate: float
    bias_rate: float


def centered_start(features: Tensor, centers: Tensor) -> CenteredStart:
    """Return the softmax model whose logits are -beta times the squared distances to the centers.

    beta is such that the greatest probability is 0.75 in the mean. gamma is a share of the weight at which the mean
    entropy of the predictions and gamma ||v||^2 balance: scaling all logits would then change neither up nor down.
    Below that share training makes the model more decisive, and far below it any hyperplane is as good as any other.
    The rates of SGD go with beta and with the squared length of the features. So features times a constant give the
    same predictions at every step.

    Args:
        features: (n, D).
        centers: (K, D).
    """
    mean = features.mean(0)
    apart, from_mean = features - mean, centers - mean
    nearness = 2 * apart @ from_mean.T - from_mean.square().sum(1)  # |x - mean|^2 - |x - c|^2, (n, K)
    energy = float(apart.square().sum(1).mean())
    beta = _beta(nearness, energy)
    weight = 2 * beta * from_mean
    bias = -beta * (from_mean.square().sum(1) + 2 * from_mean @ mean)
    log_p = (beta * nearness).double().log_softmax(1)
    p = log_p.exp()
    entropy = -(p * log_p).sum(1)  # of scaled logits z its slope is -(E[log p z] - E[log p] E[z])
    logits = beta * nearness.double()
    falls = ((p * log_p * logits).sum(1) + entropy * (p * logits).sum(1)).mean()
    squares = float(weight.double().square().sum())
    gamma = _NORM_SHARE * float(falls) / (2 * squares) if squares > 0 else 0.0
    uncentered = float(features.square().sum(1).mean())
    bias_rate = _RATE * beta * energy
    return CenteredStart(weight, bias, max(0.0, gamma), bias_rate / max(uncentered, 1e-30), bias_rate)


def _beta(nearness: Tensor, energy: float) -> float:
    """Return the factor of logits (n, K) at which the greatest probability is _CONFIDENCE in the mean."""
    low, high = 1e-3, 1e6  # in units of 1 / energy
    if not energy > 0:
        return 1.0
    for _ in range(50):
        middle = math.sqrt(low * high)
        confidence = float((middle / energy * nearness).softmax(1).amax(1).mean())
        low, high = (middle, high) if confidence < _CONFIDENCE else (low, middle)
    return math.sqrt(low * high) / energy


def _centers(features: Tensor, n_clusters: int, seed: int) -> Tensor:
    """Return the centers of k-means on features (n, D), (K, D)."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters
        k_means = KMeans(min(n_clusters, len(features)), n_init=_CLUSTERINGS, random_state=seed)
        found = torch.from_numpy(k_means.fit(features.double().cpu().numpy()).cluster_centers_).to(features)
    missing = n_clusters - len(found)  # a sample of fewer points than clusters
    return torch.cat([found, found[-1:].expand(missing, -1)]) if missing else found


def _seeded_order(features: Tensor, centers: Tensor, seeds: Array) -> Array:
    """Return the centers' order in which each comes as near as possible to the points whose given label is its place.

    Args:
        features: (n, D).
        centers: (K, D).
        seeds: (n,) given labels, -1 = unknown.
    """
    sure = seeds >= 0
    together = np.zeros((len(centers), len(centers)))  # given label, center
    nearest = torch.cdist(features[torch.from_numpy(sure).to(features.device)], centers).argmin(1).cpu().numpy()
    np.add.at(together, (seeds[sure], nearest), 1)
    return linear_sum_assignment(-together)[1]


# What "auto" stands for


def _backbone(settings: EntropyClustering, shape: tuple[int, ...]) -> str:
    if settings.backbone != "auto":
        return settings.backbone
    if settings.loss == "k-means":
        return "linear"
    if settings.weights is not None and len(shape) == 3:
        return "resnet18"
    return {3: "vgg4", 2: "window", 1: "linear"}.get(len(shape), "linear")


def _recipe(settings: EntropyClustering, shape: tuple[int, ...]) -> Recipe:
    return _RECIPES.get(_backbone(settings, shape), _ADAM)


def _start(settings: EntropyClustering, shape: tuple[int, ...]) -> str:
    if settings.start != "auto":
        return settings.start
    linear = _backbone(settings, shape) == "linear"
    return "k-means" if linear and settings.loss in _CENTERED else "fair"


def _centered(settings: EntropyClustering, shape: tuple[int, ...]) -> bool:
    """Return whether a linear model starts at k-means, which takes few steps."""
    return _backbone(settings, shape) == "linear" and _start(settings, shape) == "k-means"


def _gamma(settings: EntropyClustering, recipe: Recipe) -> float:
    if settings.gamma != "auto":
        return settings.gamma
    return _SCAN_GAMMA if settings.loss == "scan" else recipe.gamma


def _views(given: str | tuple[str, ...], scaling: str, backbone: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    if given != "auto":
        return tuple(given)
    possible = len(shape) == 3 and backbone != "linear" and scaling in ("auto", "unit")
    return ("flip", "rotation", "colour") if possible else ()


def _scaling(settings: EntropyClustering, view: image_views.View | None, x: Tensor) -> ScalingName:
    if settings.scaling != "auto":
        return settings.scaling
    return "unit" if view is not None else "auto" if x.ndim == 2 else "standard"


def _trunk(backbone: str, shape: tuple[int, ...]) -> tuple[nn.Module, int]:
    """Return what is below the head, and how many features come out of it."""
    if backbone == "linear":
        return nn.Flatten(), math.prod(shape)
    if backbone == "vgg4":
        vgg = VGG4(shape)
        return vgg, vgg.out_dim
    if backbone == "resnet18":
        resnet = ResNet18(shape)
        return resnet, resnet.out_dim
    return build(backbone, shape, _TRUNK_DIM), _TRUNK_DIM


def _read_seeds(path: str) -> tuple[int, ...]:
    try:
        found = np.load(Path(path), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ParameterError(
            [f"seeds={path!r} cannot be read ({error}); give a .npy file of integers, one a point, -1 = unknown."]
        ) from error
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise ParameterError(
            [
                f"seeds={path!r} holds an array of shape {found.shape} and type {found.dtype}; it must be (N,) "
                f"integers, -1 = unknown."
            ]
        )
    return tuple(found.tolist())


def _seed_faults(values: dict[str, Any], n_samples: int) -> list[str]:
    seeds, k = values["seeds"], values["n_clusters"]
    if seeds is None:
        return ["loss='seeds' trains on given labels, and there are none. Give seeds."] * (values["loss"] == "seeds")
    if values["loss"] == "k-means":
        return ["seeds cannot be used with loss='k-means'. Leave them out, or take another loss."]
    if len(seeds) != n_samples:
        return [f"seeds has {len(seeds)} labels for {n_samples} points. Give one a point, -1 where it is unknown."]
    wrong = [(at, label) for at, label in enumerate(seeds) if not -1 <= label < k]
    if wrong:
        at, label = wrong[0]
        return [f"seeds[{at}] is {label}; labels must be 0 .. {k - 1} for n_clusters={k}, or -1 = unknown."]
    if max(seeds) < 0:
        return ["seeds holds nothing but -1; give a label for some points, or seeds=None."]
    return []
