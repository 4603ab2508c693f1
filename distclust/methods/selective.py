"""Selective pseudo-label clustering (SPC).

Mahon & Lukasiewicz, *Selective Pseudo-Label Clustering*, KI 2021. Equations, sections and tables are the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from distclust import losses
from distclust.consensus import rename
from distclust.contracts import Agreement, Array, Labels, MemberOutput, Round, State, Status
from distclust.errors import RunError
from distclust.labelling import AutoLabels, Collapsed, NoCut, auto_label, label
from distclust.methods.base import (
    AUTO_ROUNDS,
    BLOCK,
    EnsembleClusterer,
    Rounds,
    batches,
    collapse,
    n_batches,
    renaming,
    restore_optimiser,
)
from distclust.metrics import effective_clusters
from distclust.nets import PseudoClassifier, Scaling, ScalingName, build_autoencoder, default_latent_dim
from distclust.seeding import generator, integer, torch_generator, torch_stream

# Table 2 and Section 5.1: what differs from the full method. In the paper's table the short names of A1 and A2 are
# crossed; these follow the long descriptions in its text.
ABLATIONS: dict[str, dict[str, Any]] = {
    "A1": {"train_on": "own"},  # every member on its own labels of all points
    "A2": {"train_on": "consensus"},  # all members on the consensus labels of all points
    # One member always agrees with itself, so that agreement cannot end its training: the rounds are counted.
    "A3": {"n_members": 1, "n_rounds": 10, "patience": 10},  # no ensemble
    "A4": {  # pseudo-labels only
        "n_members": 1,
        "n_rounds": 10,
        "patience": 10,
        "pretrain_epochs": 0,
        "reconstruction_weight": 0.0,
    },
    "A5": {"n_members": 1, "n_rounds": 1},  # UMAP and autoencoder
    "A6": {"n_members": 1, "n_rounds": 1, "encoder": "none"},  # UMAP alone
}

_ROUNDS = {"linear": 3, "none": 1}  # what n_rounds="auto" stands for with an encoder, else 30
_LINEAR_DIM, _STARTED_POINTS = 50, 10_000  # latents of encoder="linear", and points that its components are found from
_PRETRAIN_EPOCHS, _PRETRAIN_STEPS = 10, 1400  # at least, where pretrain_epochs is "auto"


@dataclass(kw_only=True, eq=False, repr=False)
class SelectivePseudoLabel(EnsembleClusterer):
    """An ensemble of autoencoders that trains on the labels its members agree on (Algorithm 1).

    Each member is pretrained as an autoencoder and labels the points by clustering its latents. The labellings are
    aligned; where all members agree, the label becomes a target for all of them, elsewhere they reconstruct, eq. (2).
    Then they label again, until the number of agreed points grows no more.

    Args:
        n_clusters: number of clusters K, >= 2.
        n_members: number of members M; 1 is the paper's ablation without an ensemble.
        agreement_threshold: share of the voting members that must agree for a point to count as agreed, in (0, 1];
            the paper's is 1.
        random_state: the seed; the same seed gives the same labels.
        labelling: how latents become labels, see `labelling.label`. "auto" is "umap-hdbscan", as in the paper, with
            smaller clusters than N / 2K where the data clearly have them, and "umap-gmm" where the tree has no cut at K
            clusters, see `labelling.auto_label`; in the paper such a labelling has no vote.
        concatenation: cluster the concatenation of all members' latents too, and let it vote as one more member.
        train_on: the targets. "agreed": the consensus labels of the agreed points; "consensus": those of all points;
            "own": every member's own labels of all points.
        reconstruct: which points are reconstructed while there are targets: "unagreed", those without a target, as in
            eq. (2), or "all", as in the authors' program.
        reconstruction_weight: weight of the reconstruction against the cross-entropy.
        encoder: autoencoder, "conv", "mlp", "linear", "window" or "auto", see `nets.build_autoencoder`; or "none": no
            network, the scaled data itself. "auto" is "linear" for vectors: it starts as their principal components,
            the best linear autoencoder, and needs no pretraining.
        latent_dim: dimension of the latents; "auto" is 20 for small data points, else 50; with "linear" 50, or as many
            as there are features.
        latent_noise: standard deviation of the noise that is added to the latents in training. The authors' program
            divides normal noise by the largest value drawn and multiplies it by 1.5: about 0.45 in batches of 64.
        scaling: how raw values are scaled, see `nets.Scaling`; "auto" is -1 .. 1 for images, for vectors what
            `nets.choose_scaling` finds.
        pretrain_epochs: passes over the data before the first labelling; "auto" is 10 as in the authors' program, more
            on small data, for 1,400 optimiser steps; 0 with "linear".
        epochs: passes over the data in each later round; 8 in the authors' program.
        n_rounds: labelings at most, >= 1; "auto" is 30, 3 with encoder="linear", whose first is nearly its best, and 1
            with encoder="none", where there is nothing to train.
        patience: rounds without more agreed points than ever before, after which training ends.
        batch_size: points a batch.
        learning_rate: of Adam.
        n_neighbors: of UMAP; "auto" is 30 N / 70,000 as in the paper, at least 10.
        min_cluster_size: points that make a cluster in HDBSCAN's tree; "auto" is N / 2K as in the authors' program, or
            less where labelling is "auto" and the data clearly have smaller groups.

    Attributes: as in `EnsembleClusterer`.
    """

    trains_on_agreement = True
    may_end_early = True
    most_rounds = 30

    n_members: Annotated[int, Field(ge=1, description="number of members of the ensemble")] = 15
    labelling: Annotated[
        Literal["auto", "umap-hdbscan", "umap-gmm", "umap-k-means", "hdbscan", "gmm", "k-means"],
        Field(description="how latents become labels"),
    ] = "auto"
    concatenation: Annotated[bool, Field(description="let the concatenation of all latents vote too")] = True
    train_on: Annotated[Literal["agreed", "consensus", "own"], Field(description="the targets")] = "agreed"
    reconstruct: Annotated[
        Literal["unagreed", "all"], Field(description="which points are reconstructed beside targets")
    ] = "unagreed"
    reconstruction_weight: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="weight of the reconstruction")
    ] = 1.0
    encoder: Annotated[Literal["auto", "conv", "mlp", "linear", "window", "none"], Field(description="network")] = (
        "auto"
    )
    latent_dim: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1)], Field(description="dimension of the latents")
    ] = "auto"
    latent_noise: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="standard deviation of the noise on the latents")
    ] = 0.45
    scaling: Annotated[
        Literal["auto", "unit", "symmetric", "standard", "center", "length", "none"],
        Field(description="how raw values are scaled"),
    ] = "auto"
    pretrain_epochs: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=0)],
        Field(description="passes over the data before the first labelling"),
    ] = "auto"
    epochs: Annotated[int, Field(ge=1, description="passes over the data in each later round")] = 8
    n_rounds: Annotated[Rounds, Field(description="labelings at most")] = AUTO_ROUNDS
    patience: Annotated[int, Field(ge=1, description="rounds without more agreed points before the end")] = 2
    batch_size: Annotated[int, Field(ge=2, description="points a batch")] = 64
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False, description="of Adam")] = 1e-3
    n_neighbors: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=2)], Field(description="neighbours that UMAP looks at")
    ] = "auto"
    min_cluster_size: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=2)], Field(description="points that make a cluster in HDBSCAN's tree")
    ] = "auto"

    def member(self, shape: tuple[int, ...], index: int, device: str = "cpu") -> SelectiveMember:
        """Return a new member; see `contracts.Method`."""
        return SelectiveMember(self, shape, index, device)

    def agree(self, outputs: Sequence[MemberOutput], last: Round | None = None) -> Agreement:
        """Align the labellings, that of the concatenated latents among them, and take their vote.

        The clusters keep the names of the round before, so that the pseudo-classifiers' targets do.
        """
        extra = self._concatenated(outputs, 0 if last is None else last.index + 1)
        agreement = super().agree([*outputs, *extra])
        remarks = tuple(f"the concatenation of all latents has no vote: {o.cause}" for o in extra if o.cause)
        remarks += agreement.remarks + _ways(self, [*outputs, *extra], len(outputs))
        labels, aligned = agreement.labels, agreement.aligned[: len(outputs)]
        if last is not None:
            kept = rename(labels, last.agreement.labels, self.n_clusters)
            names = np.append(renaming(labels, kept, self.n_clusters), -1)  # its last is the name of "no label"
            labels, aligned = kept, names[aligned]
        agreed = agreement.agreed
        seats = len(outputs) + len(extra)
        if 2 * agreement.voters == seats:  # one half would teach the other what it believes
            agreed = np.zeros_like(agreed)
            remarks += (f"no point counts as agreed on: only {agreement.voters} of {seats} vote",)
        return replace(agreement, labels=labels, agreed=agreed, aligned=aligned, remarks=remarks)

    def names(self, output: MemberOutput, aligned: Labels) -> Labels:
        """Return the names of a pseudo-classifier's outputs, which are the consensus' own; see `EnsembleClusterer`."""
        return np.full(self.n_clusters, -1) if output.status == "lost" else np.arange(self.n_clusters)

    def finished(self, last: Round) -> bool:
        """Return whether the number of agreed points has stopped growing; no true label is asked."""
        counts = last.agreed_counts
        best = int(np.argmax(counts))
        return len(counts) - 1 - best >= self.patience

    def n_epochs(self, shape: tuple[int, ...], round: int, n_samples: int) -> int:
        """Return the number of passes over the data in a round."""
        if round > 0:
            return self.epochs
        if self.pretrain_epochs != "auto":
            return self.pretrain_epochs
        if _encoder(self, shape) == "linear":
            return 0
        return max(_PRETRAIN_EPOCHS, math.ceil(_PRETRAIN_STEPS / n_batches(n_samples, self.batch_size)))

    def clustered(self, latents: Array, member: int, round: int) -> AutoLabels:
        """Return the labels of latents (N, D) on the stream of a member and round, and how they were found.

        Raises:
            NoCut: no level of the tree gives exactly n_clusters clusters, and nothing else may be tried.
            Collapsed: there are fewer distinct latents than clusters.
        """
        options: dict[str, Any] = {
            "seed": integer(self.random_state, "labelling", member=member, round=round),
            "n_neighbors": None if self.n_neighbors == "auto" else self.n_neighbors,
            "min_cluster_size": None if self.min_cluster_size == "auto" else self.min_cluster_size,
        }
        if self.labelling == "auto":
            found = auto_label(latents, self.n_clusters, **options)
            if found.by == "umap-gmm" and self.encoder == "linear":  # no gaps: distances in the data's space say more
                return AutoLabels(label(latents, self.n_clusters, by="k-means", seed=options["seed"]), "k-means", 0)
            return found
        return AutoLabels(label(latents, self.n_clusters, by=self.labelling, **options), self.labelling, 0)

    def _resolved(self, values: dict[str, Any], x: Array) -> dict[str, Any]:
        encoder = _encoder(type(self)(**values), x.shape[1:])
        n_rounds = _ROUNDS.get(encoder, self.most_rounds) if values["n_rounds"] == "auto" else values["n_rounds"]
        return {**values, "encoder": encoder, "n_rounds": n_rounds}

    def _faults(self, values: dict[str, Any], x: Array) -> list[str]:
        faults = super()._faults(values, x)
        if values["encoder"] == "none":
            if values["n_rounds"] > 1:
                faults.append(
                    f"encoder='none' cannot be used with n_rounds={values['n_rounds']}: without a network there is "
                    f"nothing to train on pseudo-labels. Give n_rounds=1, or an encoder."
                )
        else:
            with torch.device("meta"):  # refuses a shape that it cannot take, before any worker starts
                build_autoencoder(_encoder(type(self)(**values), x.shape[1:]), x.shape[1:], 1)
        return faults

    def _concatenated(self, outputs: Sequence[MemberOutput], round: int) -> list[MemberOutput]:
        """Return the output of the voter on the concatenated latents, if it has one to give."""
        latents = [o.latents for o in outputs if o.latents is not None]
        if not self.concatenation or len(latents) < 2:
            return []
        try:
            found = self.clustered(np.concatenate(latents, axis=1), self.n_members, round)
        except (NoCut, Collapsed) as error:
            labels = np.full(len(latents[0]), -1, np.int64)
            return [MemberOutput(labels, status="abstained", cause=str(error))]
        return [MemberOutput(found.labels, scores=_how(self, found))]


class SelectiveNet(nn.Module):
    """Scaling, autoencoder and pseudo-classifier: f, g and h of Section 3.1.

    Args:
        settings: the method's checked parameters.
        shape: shape of one data point.
        index: of the member, for its random streams.
    """

    trained: Tensor

    def __init__(self, settings: SelectivePseudoLabel, shape: tuple[int, ...], index: int) -> None:
        super().__init__()
        self.scaling = Scaling(shape)
        self.bare = settings.encoder == "none"
        latent_dim = _latent_dim(settings, shape)
        with torch_stream(settings.random_state, "autoencoder weights", member=index):
            if not self.bare:
                self.autoencoder = build_autoencoder(_encoder(settings, shape), shape, latent_dim)
            self.classifier = PseudoClassifier(latent_dim, settings.n_clusters)
        self.register_buffer("trained", torch.zeros((), dtype=torch.bool))  # whether the classifier has seen a target

    def encode(self, x: Tensor) -> Tensor:
        """Return the latents (N, D) of raw values (N, *shape)."""
        scaled = self.scaling(x)
        return scaled.flatten(1) if self.bare else self.autoencoder.encoder(scaled)

    def posterior(self, x: Tensor) -> Tensor:
        """Return the pseudo-classifier's softmax of raw values, (N, K) float64."""
        return self.classifier(self.encode(x)).double().softmax(1)


class SelectiveMember:
    """One autoencoder with its pseudo-classifier and their optimiser.

    Args:
        settings: the method's checked parameters.
        shape: shape of one data point.
        index: of the member, for its random streams.
        device: where it computes.
    """

    def __init__(self, settings: SelectivePseudoLabel, shape: tuple[int, ...], index: int, device: str = "cpu") -> None:
        self.settings, self.shape, self.index, self.device = settings, shape, index, device
        self.net = SelectiveNet(settings, shape, index).to(device)
        if len(shape) == 3:
            self.net = self.net.to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=settings.learning_rate, fused=True)
        self.own: Labels | None = None  # labels of the round before, where they are the targets

    def advance(self, x: Tensor, agreed: Agreement | None, round: int) -> MemberOutput:
        """Train for one round, on what the ensemble agreed on if there is anything, and label all points."""
        if round == 0:
            self.net.scaling.fit(x, _scaling(self.settings, x))
            self._start(x)
        scores = self._train(x, self._targets(agreed), round)
        latents = self._latents(x)
        try:
            found = self.settings.clustered(latents, self.index, round)
        except (NoCut, Collapsed) as error:
            self.own = None
            status: Status = "abstained" if isinstance(error, NoCut) else "collapsed"
            return MemberOutput(np.full(len(x), -1, np.int64), latents, scores, status, str(error))
        if self.settings.train_on == "own":
            self.own = found.labels
        scores |= _how(self.settings, found)
        scores["effective_clusters"] = float(effective_clusters(found.labels))
        marked = collapse(MemberOutput(found.labels, latents, scores), x, self.net.scaling)
        # "auto" goes below N / 2K only for a clear cut: the small group stands apart, however few its points
        return replace(marked, status="voting", cause="") if _went_below(self.settings, found, len(x)) else marked

    def predict_proba(self, x: Tensor) -> Tensor:
        """Return the pseudo-classifier's softmax, (N, K), in the consensus' names."""
        if not self.net.trained:
            raise RunError(
                "this ensemble cannot label new points: its pseudo-classifiers saw no target, because training ended "
                "after one round or no points were agreed on. Train with n_rounds >= 2, or a lower agreement_threshold."
            )
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
        """Return network, optimiser and the labels that are targets."""
        return {"net": self.net.state_dict(), "optimiser": self.optimiser.state_dict(), "own": self.own}

    def load_state_dict(self, state: State) -> None:
        """Take up a state that `state_dict` gave."""
        self.net.load_state_dict(state["net"])
        self.own = state.get("own")
        if "optimiser" in state:  # a saved model predicts and has none
            restore_optimiser(self.optimiser, state["optimiser"])

    def _start(self, x: Tensor) -> None:
        """Start a linear autoencoder at the principal components."""
        if _encoder(self.settings, self.shape) != "linear":
            return
        drawn = generator(self.settings.random_state, "points for the components", member=self.index)
        rows = torch.from_numpy(np.sort(drawn.permutation(len(x))[:_STARTED_POINTS])).to(x.device)
        seed = integer(self.settings.random_state, "principal components", member=self.index)
        self.net.autoencoder.start_at_components(self.net.scaling(x[rows]), seed)

    def _targets(self, agreed: Agreement | None) -> Tensor | None:
        """Return the label to train on, (N,), -1 = none: then the point is reconstructed. None = there is no label."""
        if agreed is None:
            return None
        if self.settings.train_on == "own":
            targets = None if self.own is None else rename(self.own, agreed.labels, self.settings.n_clusters)
        elif self.settings.train_on == "consensus" or self.settings.n_members == 1:  # one alone agrees with nobody
            targets = agreed.labels
        else:
            targets = np.where(agreed.agreed, agreed.labels, -1)
        if targets is None or (targets < 0).all():
            return None
        return torch.from_numpy(targets).to(self.device)

    def _train(self, x: Tensor, targets: Tensor | None, round: int) -> dict[str, float]:
        """Run the round's epochs and return the mean losses."""
        settings = self.settings
        epochs = settings.n_epochs(self.shape, round, len(x))
        if self.net.bare or epochs == 0 or (targets is None and settings.reconstruction_weight == 0):
            return {}
        if targets is not None:
            self.net.trained.fill_(True)
        self.net.train()
        noise = torch_generator(
            settings.random_state, "latent noise", member=self.index, round=round, device=self.device
        )
        order = generator(settings.random_state, "batch order", member=self.index, round=round)
        totals, steps = torch.zeros(2, device=self.device), 0
        for _ in range(epochs):
            for rows in batches(order.permutation(len(x)), settings.batch_size):
                at = torch.from_numpy(rows).to(x.device)
                cross_entropy, reconstruction = self._losses(x[at], None if targets is None else targets[at], noise)
                loss = cross_entropy + settings.reconstruction_weight * reconstruction
                self.optimiser.zero_grad()
                loss.backward()
                self.optimiser.step()
                totals += torch.stack((cross_entropy.detach(), reconstruction.detach()))
                steps += 1
        cross_entropy, reconstruction = (totals / steps).tolist()
        if not math.isfinite(cross_entropy + reconstruction):
            raise FloatingPointError(
                f"the loss is not finite in round {round + 1}; lower learning_rate (now {settings.learning_rate:g}) "
                f"or check the scaling of the data"
            )
        return {"cross_entropy": cross_entropy, "reconstruction": reconstruction}

    def _losses(self, xb: Tensor, targets: Tensor | None, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the two terms of eq. (2) on a batch of raw values; without targets the classifier stays as it is."""
        scaled = self.net.scaling(xb)
        if scaled.ndim == 4:
            scaled = scaled.contiguous(memory_format=torch.channels_last)
        latents = self.net.autoencoder.encoder(scaled)  # (B, D)
        shaken = torch.randn(latents.shape, generator=noise, device=latents.device)
        noisy = latents + self.settings.latent_noise * shaken
        if targets is None:
            cross_entropy = torch.zeros((), device=scaled.device)
        else:
            cross_entropy = losses.selected_cross_entropy(self.net.classifier(noisy), targets)
        return cross_entropy, self._reconstruction(noisy, scaled, targets)

    def _reconstruction(self, noisy: Tensor, scaled: Tensor, targets: Tensor | None) -> Tensor:
        """Return the bottom term of eq. (2); what is not to be reconstructed is not decoded."""
        nothing = torch.zeros((), device=scaled.device)
        if self.settings.reconstruction_weight == 0:
            return nothing
        if targets is None or self.settings.reconstruct == "all":
            return losses.mean_l1(self.net.autoencoder.decoder(noisy), scaled, len(scaled))
        chosen = (targets < 0).nonzero()[:, 0]
        if len(chosen) < 2:  # batch norm needs two
            return nothing
        return losses.mean_l1(self.net.autoencoder.decoder(noisy[chosen]), scaled[chosen], len(scaled))

    def _latents(self, x: Tensor) -> Array:
        return torch.cat([self.transform(xb) for xb in x.split(BLOCK)]).numpy()


def _latent_dim(settings: SelectivePseudoLabel, shape: tuple[int, ...]) -> int:
    if settings.encoder == "none":
        return math.prod(shape)
    if settings.latent_dim != "auto":
        return settings.latent_dim
    linear = _encoder(settings, shape) == "linear"
    return min(_LINEAR_DIM, math.prod(shape)) if linear else default_latent_dim(shape)


def _encoder(settings: SelectivePseudoLabel, shape: tuple[int, ...]) -> str:
    return "linear" if settings.encoder == "auto" and len(shape) == 1 else settings.encoder


def _scaling(settings: SelectivePseudoLabel, x: Tensor) -> ScalingName:
    if settings.scaling == "auto" and x.ndim == 4:
        return "symmetric"  # the decoder ends in tanh
    return settings.scaling


def _how(settings: SelectivePseudoLabel, found: AutoLabels) -> dict[str, float]:
    """Return among a member's scores whether a mixture stood in for the tree, and the smallest size of a cluster."""
    if settings.labelling != "auto":
        return {}
    return {
        "mixture": float(found.by == "umap-gmm"),
        "k_means": float(found.by == "k-means"),
        "min_cluster_size": float(found.min_cluster_size),
    }


def _ways(settings: SelectivePseudoLabel, outputs: Sequence[MemberOutput], n_members: int) -> tuple[str, ...]:
    """Return the remarks on how labellings were found, those of the members and then that of their concatenation.

    Remarked on are labellings by a mixture, and by smaller clusters than N / 2K.
    """
    by_mixture, by_k_means = (
        [index for index, output in enumerate(outputs) if output.scores.get(score)] for score in ("mixture", "k_means")
    )
    remarks = []
    if by_mixture:
        remarks.append(
            f"a Gaussian mixture labels {_named(by_mixture, n_members)}, where no level of HDBSCAN's tree has exactly "
            f"{settings.n_clusters} clusters"
        )
    if by_k_means:
        remarks.append(
            f"k-means in the latents labels {_named(by_k_means, n_members)}, where no level of HDBSCAN's tree has "
            f"exactly {settings.n_clusters} clusters"
        )
    usual = len(outputs[0].labels) // (2 * settings.n_clusters)
    sizes = {index: int(output.scores.get("min_cluster_size", 0)) for index, output in enumerate(outputs)}
    smaller = [index for index, size in sizes.items() if 0 < size < usual]
    if smaller and settings.min_cluster_size == "auto":
        remarks.append(
            f"HDBSCAN's tree of {_named(smaller, n_members)} is cut at clusters of at least "
            f"{min(sizes[index] for index in smaller)} points in place of N / 2K = {usual}: there are smaller groups"
        )
    return tuple(remarks)


def _went_below(settings: SelectivePseudoLabel, found: AutoLabels, n_samples: int) -> bool:
    """Return whether "auto" chose smaller clusters than N / 2K because their cut is clear."""
    is_free = settings.labelling == "auto" and settings.min_cluster_size == "auto"
    return is_free and 0 < found.min_cluster_size < n_samples // (2 * settings.n_clusters)


def _named(indices: Sequence[int], n_members: int) -> str:
    return ", ".join(f"member {index}" if index < n_members else "the concatenation" for index in indices)
