"""Combination assignment (CA) and its rival partition supports.

Mahon & Lukasiewicz, *Hard Regularization to Prevent Deep Online Clustering Collapse without Data Augmentation*,
AAAI 2024. Equations and sections are the paper's.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from scipy.optimize import linear_sum_assignment
from sklearn.utils.validation import validate_data
from torch import Tensor, nn

from distclust import assign, losses
from distclust.calibration import Calibration
from distclust.consensus import vote
from distclust.contracts import Agreement, Array, Labels, MemberOutput, Round, State
from distclust.data import check_x, imbalance_prior
from distclust.distributed.pool import chosen_device, threads
from distclust.errors import DataError
from distclust.methods.base import (
    AUTO_ROUNDS,
    BLOCK,
    COLLAPSED,
    EnsembleClusterer,
    Rounds,
    batches,
    collapse,
    collapsed,
    epochs_of_round,
    n_batches,
    near,
    restore_optimiser,
    round_faults,
    share_faults,
)
from distclust.metrics import effective_clusters
from distclust.nets import LinearEncoder, Scaling, build, build_decoder
from distclust.seeding import generator, integer, torch_generator, torch_stream

Support = Literal[
    "greedy",
    "exact",
    "sinkhorn",
    "sinkhorn-soft",
    "entropy",
    "sum-of-squares",
    "variance",
    "concrete-k-means",
    "none",
]

_INIT_POINTS = 10_000  # points that k-means sees at the start
_INIT_TRIALS, _LINEAR_TRIALS = 10, 3  # runs of k-means of which the tightest is taken
_MIN_STEPS = 500  # optimiser steps that n_epochs="auto" makes sure of on small data
_LINEAR_EPOCHS, _LINEAR_STEPS = 3, 100  # the same for an encoder that starts as the data's own geometry
# Weight of the support's term against the mean cost: the ratios of the authors' program.
_WEIGHTS = {"entropy": 1000.0, "sum-of-squares": 100.0, "variance": 100.0, "concrete-k-means": 1.0}


@dataclass(kw_only=True, eq=False, repr=False)
class CombinationAssignment(EnsembleClusterer):
    """Online deep clustering whose batchwise assignment prefers near *and* small clusters.

    An encoder and K centroids are trained together: each batch is assigned to clusters by the partition support, and
    gradient descent moves latents and centroids towards each other. At inference a point goes to the nearest centroid.

    Args:
        n_clusters: number of clusters K, >= 2.
        n_members: number of members M; 1 is the paper's single model.
        agreement_threshold: share of the voting members that must agree for a point to count as agreed, in (0, 1].
        random_state: the seed; the same seed gives the same labels.
        support: what keeps the batch from going into one cluster. "greedy" is combination assignment (Algorithm 1),
            "exact" the optimum of eq. (6), "sinkhorn" optimal transport with hard targets (SK), "sinkhorn-soft" with
            soft ones, "entropy" (ENT), "sum-of-squares" (SS), "variance" (VarM, appendix C), "concrete-k-means" (CKM,
            with a decoder), "none" the nearest centroid.
        prior: expected share of every cluster, K numbers that sum to one, or "uniform", or that of an imbalance of
            `load`: "imb1", "imb2", "imb3"; for greedy, exact and sinkhorn.
        covariance: "isotropic" is sigma I; "estimated" takes each cluster's shape from the data after every round and
            keeps its volume that of sigma I.
        sigma: isotropic variance of every cluster, > 0.
        latent_dim: dimension of the latents.
        encoder: "conv", "mlp", "linear", "window", or "auto": "linear" for vectors, else by the data's shape, see
            `nets.build`. "linear" starts at the data's principal components, so that the distances between points,
            which mean something in embeddings, are not lost in a random network.
        scaling: how raw values are scaled, see `nets.Scaling`; "auto" is "unit" for images, see `nets.choose_scaling`.
        centroids: where they start. "normal" draws from N(0, 1) as in the paper; "k-means" takes the k-means centres
            of the untrained encodings and moves them to equal distances, see `equidistant`; with "linear" encodings of
            fewer than K - 1 dimensions, which have no room for that, it leaves them where they are.
        n_epochs: passes over the data, or "auto": 10 as in the paper, more on small data, for 500 optimiser steps; with
            "linear" 3, or more for 100 steps.
        n_rounds: labelings during training, evenly spread; at most n_epochs. "auto" is 10, or n_epochs where that is
            less.
        batch_size: points a batch.
        learning_rate: of Adam, for encoder and centroids.
        schedule: "cosine" lets the learning rate fall to zero along half a cosine, "constant" is the paper's.
        support_weight: weight of the support's term against the mean cost where it has one; None = 1000 for entropy,
            100 for sum-of-squares and variance, 1 for the reconstruction of concrete-k-means.
        sinkhorn_epsilon: entropy regularisation of the optimal transport, > 0.
        sinkhorn_iterations: alternations of the optimal transport.
        temperature: of the Gumbel-softmax of concrete-k-means, > 0.

    Attributes: as in `EnsembleClusterer`.
    """

    shares_parameter = "prior"

    support: Annotated[Support, Field(description="partition support")] = "greedy"
    prior: Annotated[
        Literal["uniform", "imb1", "imb2", "imb3"] | tuple[Annotated[float, Field(ge=0, le=1)], ...],
        Field(description="expected share of every cluster"),
    ] = "uniform"
    covariance: Annotated[Literal["isotropic", "estimated"], Field(description="shape of the clusters")] = "isotropic"
    sigma: Annotated[float, Field(gt=0, allow_inf_nan=False, description="isotropic variance of every cluster")] = 100.0
    latent_dim: Annotated[int, Field(ge=1, description="dimension of the latents")] = 128
    encoder: Annotated[Literal["auto", "conv", "mlp", "linear", "window"], Field(description="network")] = "auto"
    scaling: Annotated[
        Literal["auto", "unit", "standard", "center", "length", "none"], Field(description="how raw values are scaled")
    ] = "auto"
    centroids: Annotated[Literal["k-means", "normal"], Field(description="where the centroids start")] = "k-means"
    n_epochs: Annotated[Literal["auto"] | Annotated[int, Field(ge=1)], Field(description="passes over the data")] = (
        "auto"
    )
    n_rounds: Annotated[Rounds, Field(description="labelings during training, evenly spread")] = AUTO_ROUNDS
    batch_size: Annotated[int, Field(ge=2, description="points a batch")] = 256
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False, description="of Adam")] = 1e-3
    schedule: Annotated[Literal["cosine", "constant"], Field(description="course of the learning rate")] = "cosine"
    support_weight: Annotated[
        Annotated[float, Field(ge=0, allow_inf_nan=False)] | None, Field(description="weight of the support's term")
    ] = None
    sinkhorn_epsilon: Annotated[
        float, Field(gt=0, allow_inf_nan=False, description="regularisation of the optimal transport")
    ] = 0.5
    sinkhorn_iterations: Annotated[int, Field(ge=1, description="alternations of the optimal transport")] = 15
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False, description="of the Gumbel-softmax")] = 1.0

    def member(self, shape: tuple[int, ...], index: int, device: str = "cpu") -> CombinationMember:
        """Return a new member; see `contracts.Method`."""
        return CombinationMember(self, shape, index, device)

    def partial_fit(self, X: Any, y: object = None) -> Self:
        """Learn from the next points of a stream: one pass over them, at the constant rate `learning_rate`.

        Networks, centroids and a table of names are all that is kept, so memory does not grow with the stream. The
        first call sets the scaling and starts the centroids, so it should bring points of all groups; after `fit` the
        stream goes on from there. Clusters keep their names from call to call. Members train one after another in this
        process, on a GPU if torch sees one.

        Args:
            X: points of the same shape in every call; at least n_clusters of them in the first.
            y: ignored; there for scikit-learn's sake.

        Returns:
            The estimator, whose labels_, agreement_ and agreed_ are those of this X.

        Raises:
            ParameterError: parameters that cannot be used, all faults together.
            DataError: data that cannot be used.
            FloatingPointError: the loss is not finite.
        """
        new = not hasattr(self, "members_")
        x = self._first(X) if new else self._door(X)
        stream: _Stream = getattr(self, "_stream", None) or _Stream(self.names_)
        points = torch.from_numpy(np.array(x))
        members = cast(list[CombinationMember | None], self.members_)
        if not new:
            near(next(m.net.scaling(points.to(m.device)) for m in members if m is not None).cpu().numpy())
        with threads(1):  # so that the numbers are the same on any number of CPUs
            labels = [None if m is None else m.learn(points.to(m.device), stream.n_calls, new) for m in members]
        alone = [
            m is not None and row is not None and collapsed(row, points.to(m.device), m.net.scaling)
            for m, row in zip(members, labels, strict=True)
        ]
        self.names_ = stream.names(labels, alone)
        rows = [np.full(len(x), -1) if row is None else n[row] for row, n in zip(labels, self.names_, strict=True)]
        agreement = vote(np.stack(rows), self.agreement_threshold, self.n_clusters)
        self.labels_, self.agreement_, self.agreed_ = agreement.labels, agreement.share, agreement.agreed
        self.clusters_ = np.union1d(self.clusters_, self.labels_[self.labels_ >= 0])
        self._stream: _Stream | None = stream
        return self

    def adopt(self, method: Self, x: Array, last: Round, states: Sequence[State | None]) -> Self:
        """Take up the result of a run; see `EnsembleClusterer`. A stream that goes on from it begins anew."""
        self._stream = None
        return super().adopt(method, x, last, states)

    def total_epochs(self, shape: tuple[int, ...], n_samples: int) -> int:
        """Return the number of epochs of the whole run."""
        if self.n_epochs != "auto":
            return self.n_epochs
        return max(self.n_rounds, self._auto_epochs(shape, n_samples))

    def epochs(self, shape: tuple[int, ...], n_samples: int, round: int) -> range:
        """Return the epochs that fall into a round."""
        return epochs_of_round(self.total_epochs(shape, n_samples), self.n_rounds, round)

    def _auto_epochs(self, shape: tuple[int, ...], n_samples: int) -> int:
        linear = _encoder(self, shape) == "linear"
        fewest, steps = (_LINEAR_EPOCHS, _LINEAR_STEPS) if linear else (10, _MIN_STEPS)
        return max(fewest, math.ceil(steps / n_batches(n_samples, self.batch_size)))

    def _resolved(self, values: dict[str, Any], x: Array) -> dict[str, Any]:
        if values["n_epochs"] == "auto" and values["n_rounds"] == "auto":
            epochs = type(self)(**values)._auto_epochs(x.shape[1:], len(x))
            return {**values, "n_rounds": min(self.most_rounds, epochs)}
        return super()._resolved(values, x)

    def _faults(self, values: dict[str, Any], x: Array) -> list[str]:
        faults = super()._faults(values, x)
        return faults + share_faults("prior", values) + round_faults(values)

    def _first(self, X: Any) -> Array:
        """Return the first points of a stream, checked, with the members made that are to learn from them."""
        x = check_x(X)
        method = self.checked(x)
        validate_data(self, X, skip_check_array=True, ensure_2d=False)
        self.shape_, self.n_features_in_, self.dtype_ = tuple(x.shape[1:]), int(x.shape[1]), str(x.dtype)
        device = chosen_device("auto")
        self.members_ = [method.member(self.shape_, index, device) for index in range(self.n_members)]
        self.names_ = np.tile(np.arange(self.n_clusters), (self.n_members, 1))
        self.clusters_ = np.zeros(0, np.int64)
        self.calibration_ = Calibration()
        self._stream = None
        return x


class _Stream:
    """How the members' clusters go together, counted along a stream; early counts fade by half with every call.

    Args:
        names: (M, K) each member's names at the start; -1 throughout for one without a say, which stays so.
    """

    def __init__(self, names: Labels) -> None:
        self.n_calls = 0
        self.known = names.copy()  # (M, K) the latest names
        self.together = np.zeros((len(names), names.shape[1], names.shape[1]))  # member, its cluster, name

    def names(self, labellings: Sequence[Labels | None], alone: Sequence[bool]) -> Labels:
        """Count the next points, and return the members' names, (M, K); -1 throughout for one without a say.

        The first member that has a say keeps its names, the others are matched to it. One that lately gave nearly all
        points the same label has none, unless the data show that the few others are a group.

        Args:
            labellings: each member's own labels (N,) of the same points; None for a lost one.
            alone: whether each one's labels of these points are those of a collapsed member.
        """
        self.n_calls += 1
        found = np.full_like(self.known, -1)
        reference: Labels | None = None
        for m, labels in enumerate(labellings):
            if labels is None or self.known[m, 0] < 0:
                continue
            named = self.known[m][labels] if reference is None else reference
            self.together[m] /= 2
            np.add.at(self.together[m], (labels, named), 1)
            sizes = self.together[m].sum(axis=1)
            if alone[m] and sizes.max() >= COLLAPSED * sizes.sum():
                continue
            if reference is not None:
                self.known[m] = linear_sum_assignment(-self.together[m])[1]
            reference, found[m] = named, self.known[m]
        return found


class CombinationNet(nn.Module):
    """Scaling, encoder, centroids and the clusters' shapes: all that inference needs.

    Args:
        settings: the method's checked parameters.
        shape: shape of one data point.
        index: of the member, for its random streams.
    """

    whitening: Tensor

    def __init__(self, settings: CombinationAssignment, shape: tuple[int, ...], index: int) -> None:
        super().__init__()
        seed, k, d = settings.random_state, settings.n_clusters, settings.latent_dim
        self.isotropic = settings.covariance == "isotropic"
        self.sigma = settings.sigma
        self.scaling = Scaling(shape)
        with torch_stream(seed, "encoder weights", member=index):
            self.encoder = build(_encoder(settings, shape), shape, d)
        start = torch.randn(k, d, generator=torch_generator(seed, "centroids", member=index))
        self.centroids = nn.Parameter(start)
        if not self.isotropic:
            self.register_buffer("whitening", (torch.eye(d) / self.sigma**0.5).repeat(k, 1, 1))

    def encode(self, x: Tensor) -> Tensor:
        """Return the latents (N, D) of raw values (N, *shape)."""
        return self.encoder(self.scaling(x))

    def cost(self, latents: Tensor) -> Tensor:
        """Return d(z_i, mu_k, Sigma_k) of eq. (5) up to a constant, (N, K)."""
        if self.isotropic:
            return losses.squared_distances(latents, self.centroids) / (2 * self.sigma)
        return losses.mahalanobis_cost(latents, self.centroids, self.whitening)

    def posterior(self, x: Tensor) -> Tensor:
        """Return softmax(-cost) of raw values, (N, K) float64."""
        return (-self.cost(self.encode(x))).double().softmax(1)


class CombinationMember:
    """One encoder with its centroids and their optimiser.

    Args:
        settings: the method's checked parameters.
        shape: shape of one data point.
        index: of the member, for its random streams.
        device: where it computes.
    """

    def __init__(
        self, settings: CombinationAssignment, shape: tuple[int, ...], index: int, device: str = "cpu"
    ) -> None:
        self.settings, self.shape, self.index, self.device = settings, shape, index, device
        self.net = CombinationNet(settings, shape, index).to(device)
        self.decoder: nn.Module | None = None
        parameters = list(self.net.parameters())
        if settings.support == "concrete-k-means":
            with torch_stream(settings.random_state, "decoder weights", member=index):
                self.decoder = build_decoder(_encoder(settings, shape), shape, settings.latent_dim).to(device)
            parameters += list(self.decoder.parameters())
        # Adam as in Section 4
        self.optimiser = torch.optim.Adam(parameters, lr=settings.learning_rate, betas=(0.9, 0.99), fused=True)
        self.log_prior = None if settings.prior == "uniform" else np.log(_shares(settings))

    def advance(self, x: Tensor, agreed: Agreement | None, round: int) -> MemberOutput:
        """Train for one round and label all points by their nearest centroid; `agreed` is not used."""
        if round == 0:
            self._start(x)
        loss = self._train(x, round)
        labels = self._labels(x)
        scores = {"loss": loss, "effective_clusters": float(effective_clusters(labels))}
        return collapse(MemberOutput(labels, None, scores), x, self.net.scaling)

    def learn(self, x: Tensor, call: int, start: bool) -> Labels:
        """Train on the next points of a stream, in one pass at a constant rate, and label them.

        Args:
            x: the points, on the member's device.
            call: index of the call, which addresses its random numbers.
            start: whether they are the first that this member ever sees.
        """
        if start:
            self._start(x)
        self.net.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate
        seed, member = self.settings.random_state, self.index
        noise = torch_generator(seed, "gumbel noise of a stream", member=member, round=call, device=self.device)
        order = generator(seed, "batch order of a stream", member=member, round=call).permutation(len(x))
        self._mean([self._step(xb, noise, call) for xb in self._batches(x, order)], call)
        return self._labels(x)

    def predict_proba(self, x: Tensor) -> Tensor:
        """Return softmax(-cost), (N, K): the posterior under equal shares; its greatest is the nearest centroid."""
        self.net.eval()
        with torch.no_grad():
            return self.net.posterior(x.to(self.device)).cpu()

    def scaled(self, x: Tensor) -> Tensor:
        """Return raw values as the network sees them."""
        with torch.no_grad():
            return self.net.scaling(x.to(self.device)).cpu()

    def transform(self, x: Tensor) -> Tensor:
        """Return the latents, (N, D)."""
        self.net.eval()
        with torch.no_grad():
            return self.net.encode(x.to(self.device)).cpu()

    def state_dict(self) -> State:
        """Return network, decoder and optimiser."""
        return {
            "net": self.net.state_dict(),
            "decoder": None if self.decoder is None else self.decoder.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Take up a state that `state_dict` gave."""
        self.net.load_state_dict(state["net"])
        if self.decoder is not None:
            self.decoder.load_state_dict(state["decoder"])
        if "optimiser" in state:  # a saved model predicts and has none
            restore_optimiser(self.optimiser, state["optimiser"])

    def _start(self, x: Tensor) -> None:
        self.net.scaling.fit(x, self.settings.scaling)
        if isinstance(self.net.encoder, LinearEncoder):
            seed = integer(self.settings.random_state, "principal components", member=self.index)
            scaled = torch.cat([self.net.scaling(xb) for xb in self._some(x).split(BLOCK)])
            self.net.encoder.start_at_components(scaled, seed)
        if self.settings.centroids == "k-means":
            self._centroids_from_k_means(x)

    def _centroids_from_k_means(self, x: Tensor) -> None:
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        seed, member = self.settings.random_state, self.index
        linear = isinstance(self.net.encoder, LinearEncoder)
        n_dimensions = min(math.prod(self.shape), self.settings.latent_dim) if linear else self.settings.latent_dim
        room = not linear or n_dimensions >= self.settings.n_clusters - 1
        self.net.train()
        with torch.no_grad():
            some = self._some(x)
            latents = torch.cat([self.net.encode(xb) for xb in self._batches(some, np.arange(len(some)))])  # (n, D)
            k_means = KMeans(
                min(self.settings.n_clusters, len(latents)),
                n_init=_LINEAR_TRIALS if linear else _INIT_TRIALS,
                random_state=integer(seed, "k-means", member=member),
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters
                centres = k_means.fit(latents.double().cpu().numpy()).cluster_centers_
            start = equidistant(centres) if room else centres
            self.net.centroids[: len(centres)] = torch.from_numpy(start).to(self.net.centroids)

    def _some(self, x: Tensor) -> Tensor:
        """Return points for the start, at most 10,000, in random order."""
        drawn = generator(self.settings.random_state, "points for k-means", member=self.index).permutation(len(x))
        return x[torch.from_numpy(drawn[:_INIT_POINTS]).to(x.device)]

    def _train(self, x: Tensor, round: int) -> float:
        """Run the round's epochs and return the mean loss."""
        self.net.train()
        noise = torch_generator(
            self.settings.random_state, "gumbel noise", member=self.index, round=round, device=self.device
        )
        found = []
        for epoch in self.settings.epochs(self.shape, len(x), round):
            order = generator(self.settings.random_state, "batch order", member=self.index, round=epoch)
            for step, xb in enumerate(self._batches(x, order.permutation(len(x)))):
                self._set_learning_rate(epoch, step, len(x))
                found.append(self._step(xb, noise, round))
        return self._mean(found, round)

    def _step(self, xb: Tensor, noise: torch.Generator, round: int) -> Tensor:
        """Take a step of the optimiser and return the loss before it."""
        loss = self._loss(xb, noise, round)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def _mean(self, found: Sequence[Tensor], round: int) -> float:
        mean = float(torch.stack(list(found)).mean()) if found else 0.0
        if not math.isfinite(mean):
            raise self._diverged(round)
        return mean

    def _loss(self, xb: Tensor, noise: torch.Generator, round: int) -> Tensor:
        try:
            return _LOSSES[self.settings.support](self, xb, noise)
        except DataError as error:  # the assignments refuse costs that are not finite
            raise self._diverged(round) from error

    def _diverged(self, round: int) -> FloatingPointError:
        return FloatingPointError(
            f"the loss is not finite in round {round + 1}; lower learning_rate "
            f"(now {self.settings.learning_rate:g}) or check the scaling of the data"
        )

    def _set_learning_rate(self, epoch: int, step: int, n_samples: int) -> None:
        if self.settings.schedule == "cosine":
            steps = n_batches(n_samples, self.settings.batch_size)
            done = (epoch + step / steps) / self.settings.total_epochs(self.shape, n_samples)
            for group in self.optimiser.param_groups:
                group["lr"] = self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))

    def _batches(self, x: Tensor, order: Array) -> Iterator[Tensor]:
        for part in batches(order, self.settings.batch_size):
            yield x[torch.from_numpy(part).to(x.device)]

    def _labels(self, x: Tensor) -> Labels:
        """Return the labels of all points, (N,), after the clusters' shapes are brought up to date."""
        labels = self._look(x)
        if self.settings.covariance == "estimated":
            self._estimate_covariances(x, labels)
            labels = self._look(x)  # by the new shapes, as prediction will see them
        found: Labels = labels.cpu().numpy()
        return found

    def _look(self, x: Tensor) -> Tensor:
        """Return the nearest centroid of every point, (N,)."""
        self.net.eval()
        with torch.no_grad():
            return torch.cat([self.net.cost(self.net.encode(xb)).argmin(1) for xb in x.split(BLOCK)])

    def _estimate_covariances(self, x: Tensor, labels: Tensor) -> None:
        """Take each cluster's shape from its points; the volume stays that of sigma I, so none outgrows the rest."""
        k, d = self.net.centroids.shape
        eye = torch.eye(d, dtype=torch.float64, device=self.device)
        squares = torch.zeros(k, d, d, dtype=torch.float64, device=self.device)
        sums = torch.zeros(k, d, dtype=torch.float64, device=self.device)
        with torch.no_grad():
            for xb, lb in zip(x.split(BLOCK), labels.split(BLOCK), strict=True):
                latents = self.net.encode(xb).double()
                for cluster in lb.unique().tolist():
                    z = latents[lb == cluster]  # (n, D)
                    squares[cluster] += z.T @ z
                    sums[cluster] += z.sum(0)
            counts = torch.bincount(labels, minlength=k).double()
            pooled = (squares.sum(0) - torch.outer(sums.sum(0), sums.sum(0)) / len(x)) / len(x)
            means = sums / counts.clamp(min=1)[:, None]
            own = squares / counts.clamp(min=1)[:, None, None] - means[:, :, None] * means[:, None, :]
            trust = (counts / (counts + d))[:, None, None]  # few points: lean on the pooled shape
            covariances = trust * own + (1 - trust) * pooled
            covariances += 1e-3 * covariances.diagonal(dim1=1, dim2=2).mean().clamp(min=1e-12) * eye
            lower = torch.linalg.cholesky(covariances)
            side = lower.diagonal(dim1=1, dim2=2).log().mean(1).exp()  # (K,) with volume side^D
            lower *= (self.settings.sigma**0.5 / side)[:, None, None]
            self.net.whitening.copy_(torch.linalg.solve_triangular(lower, eye.expand_as(lower), upper=False))


def _encoder(settings: CombinationAssignment, shape: tuple[int, ...]) -> str:
    return "linear" if settings.encoder == "auto" and len(shape) == 1 else settings.encoder


def _shares(settings: CombinationAssignment) -> npt.ArrayLike:
    """Return the expected share of every cluster, (K,)."""
    prior = settings.prior
    return imbalance_prior(prior, settings.n_clusters) if isinstance(prior, str) else prior


def equidistant(centres: Array) -> Array:
    """Return the regular simplex that lies nearest to the centres, mean 0 and standard deviation 1.

    Like draws from N(0, 1), its corners are as far from each other as from any other; unlike them, each looks towards
    a group that is there.

    Args:
        centres: (K, D) float64. With D < K - 1 there is no such simplex: then the spread is made equal in all
            directions.
    """
    left, spread, right = np.linalg.svd(centres - centres.mean(0), full_matrices=False)
    seen = spread > 1e-9 * max(spread[0], 1e-300)
    corners = left[:, seen] @ right[seen]
    return corners / max(corners.std(), 1e-12)


# One loss a support: what Section 3 and its rivals in Section 4 minimise on a batch of raw values xb.


def _assigned(labels_of: Callable[[CombinationMember, Tensor], Tensor]) -> Callable[..., Tensor]:
    def loss(member: CombinationMember, xb: Tensor, noise: torch.Generator) -> Tensor:
        cost = member.net.cost(member.net.encode(xb))  # (N, K)
        return losses.hard_cost(cost, labels_of(member, cost.detach()))

    return loss


def _sinkhorn(member: CombinationMember, cost: Tensor) -> Tensor:
    target = None if member.log_prior is None else np.exp(member.log_prior)
    return assign.sinkhorn(-cost, member.settings.sinkhorn_epsilon, member.settings.sinkhorn_iterations, target)


def _sinkhorn_soft_loss(member: CombinationMember, xb: Tensor, noise: torch.Generator) -> Tensor:
    cost = member.net.cost(member.net.encode(xb))
    return losses.soft_cost(cost, _sinkhorn(member, cost.detach()))


def _penalised(penalty: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def loss(member: CombinationMember, xb: Tensor, noise: torch.Generator) -> Tensor:
        cost = member.net.cost(member.net.encode(xb))
        return losses.hard_cost(cost, cost.argmin(1)) + _weight(member) * penalty(cost)

    return loss


def _concrete_loss(member: CombinationMember, xb: Tensor, noise: torch.Generator) -> Tensor:
    assert member.decoder is not None
    scaled = member.net.scaling(xb)
    latents = member.net.encoder(scaled)
    uniform = torch.rand(len(xb), member.settings.n_clusters, generator=noise, device=noise.device)
    gumbel = -(-uniform.clamp(1e-20, 1 - 1e-7).log()).log()
    scores = -member.net.cost(latents)  # (N, K)
    clustering = losses.concrete_k_means(latents, member.net.centroids, scores, gumbel, member.settings.temperature)
    reconstruction = (member.decoder(latents) - scaled).square().flatten(1).sum(1).mean()
    return clustering + _weight(member) * reconstruction


def _weight(member: CombinationMember) -> float:
    given = member.settings.support_weight
    return _WEIGHTS[member.settings.support] if given is None else given


_LOSSES: dict[str, Callable[[CombinationMember, Tensor, torch.Generator], Tensor]] = {
    "greedy": _assigned(lambda member, cost: assign.greedy(cost, member.log_prior)),
    "exact": _assigned(lambda member, cost: assign.exact(cost, member.log_prior)),
    "sinkhorn": _assigned(lambda member, cost: _sinkhorn(member, cost).argmax(1)),
    "sinkhorn-soft": _sinkhorn_soft_loss,
    "entropy": _penalised(lambda cost: losses.negative_marginal_entropy((-cost).softmax(1))),
    "sum-of-squares": _penalised(lambda cost: losses.marginal_sum_of_squares((-cost).exp())),
    "variance": _penalised(lambda cost: losses.marginal_variance((-cost).exp())),
    "concrete-k-means": _concrete_loss,
    "none": _assigned(lambda member, cost: cost.argmin(1)),
}
