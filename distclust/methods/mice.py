"""Mixture of contrastive experts (MiCE).

Tsai, Li & Zhu, *MiCE: Mixture of Contrastive Experts for Unsupervised Image Clustering*, ICLR 2021. Equations,
sections, tables, assumptions and algorithms are the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from distclust.contracts import Array, Team
from distclust.contrastive_losses import (
    evidence_bound,
    expert_log_probs,
    gating_log_probs,
    max_mahalanobis_prototypes,
    posterior,
    prototype_sums,
)
from distclust.methods.contrastive import ContrastiveClusterer, ContrastiveMember, ContrastiveNet, Student
from distclust.seeding import torch_generator, torch_stream


@dataclass(kw_only=True, eq=False, repr=False)
class MiCE(ContrastiveClusterer):
    """A gate divides the images among experts, each of which learns to tell its images from others.

    One expert a cluster discriminates instances, eqs. (5) and (6), against a queue of the teacher's embeddings,
    eq. (9). EM maximises the evidence lower bound, eqs. (11) and (12); a point's cluster is the greatest of its
    posterior, eq. (10). A method for images.

    Args:
        n_clusters: number of clusters K, >= 2; at most embedding_dim + 1 with the fixed gating prototypes.
        n_members: number of members M; 1 is the paper's single model.
        agreement_threshold: share of the voting members that must agree for a point to count as agreed, in (0, 1].
        random_state: the seed; the same seed gives the same labels.
        encoder: trunk that student and gate share: "resnet34" is the paper's, "resnet18", "small-resnet" for CPUs;
            "auto" is "small-resnet" for images with a side below 32 pixels, else "resnet34".
        embedding_dim: dimension d of all embeddings and prototypes.
        tau: temperature of the experts, > 0.
        kappa: temperature of the gate, > 0.
        gating: "input" is eq. (4), "uniform" gives all experts the same weight (assumption A3).
        gating_prototypes: omega: "max-mahalanobis" (Algorithm 2, fixed), "random" (fixed, uniform on the sphere; Table
            3 (c)) or "learned" (from Algorithm 2 on, by gradient; Table 3 (d)).
        expert_heads: "separate", or "shared" for a single output layer (assumption A4).
        class_information: whether experts have prototypes mu, eq. (6); False is assumption A5.
        prototype_update: of mu: by "gradient" alone (Table 3 (a)), "analytical" alone (eq. (13) after each epoch;
            Table 3 (b)) or "both".
        queue_size: images nu in the queue; "auto" is 16,384 as in the paper, or N where that is less.
        teacher_momentum: m of the teacher's moving average, in [0, 1); "auto" is 0.999, and 0.99 with "small-resnet".
        views: augmentation: the name of a recipe of `data.views.RECIPES` or names of `data.views.VIEWS`; "auto" is
            "moco" for colour images and "digits", without mirroring, for grey ones, with shifts up to a side / 8.
        n_epochs: passes over the data, or "auto": 235,000 optimiser steps, the paper's 1,000 epochs of CIFAR-10, or
            3,000 steps with "small-resnet".
        n_rounds: labelings during training, evenly spread; at most n_epochs. "auto" is 10, or n_epochs where that is
            less.
        batch_size: images a batch.
        learning_rate: of SGD with momentum 0.9 and weight decay 0.0001, for networks and prototypes.
        decay_at: shares of the epochs after which the learning rate falls to a tenth.
        batch_norm_groups: parts of a batch that batch norm sees one by one, each of two images at least; the teacher's
            are shuffled. With several workers a member each has its own in any case.
        precision: "bfloat16" computes the networks' sums in it, "auto" where the GPU has it.
        compile: whether torch.compile is used on the networks.
        weights: model folder of a run of this method to start from, as in Table 4; None = random weights.

    Attributes: as in `EnsembleClusterer`.
    """

    kappa: Annotated[float, Field(gt=0, allow_inf_nan=False, description="temperature of the gate")] = 1.0
    gating: Annotated[Literal["input", "uniform"], Field(description="what weighs the experts")] = "input"
    gating_prototypes: Annotated[
        Literal["max-mahalanobis", "random", "learned"], Field(description="prototypes of the gate")
    ] = "max-mahalanobis"
    expert_heads: Annotated[Literal["separate", "shared"], Field(description="output layers of the experts")] = (
        "separate"
    )
    class_information: Annotated[bool, Field(description="whether experts have prototypes")] = True
    prototype_update: Annotated[
        Literal["both", "gradient", "analytical"], Field(description="how the experts' prototypes move")
    ] = "both"

    def member(self, shape: tuple[int, ...], index: int, device: str = "cpu", team: Team | None = None) -> MiCEMember:
        """Return a new member; see `contracts.Method`."""
        return MiCEMember(self, shape, index, device, team)

    def _faults(self, values: dict[str, Any], x: Array) -> list[str]:
        faults = super()._faults(values, x)
        k, d = values["n_clusters"], values["embedding_dim"]
        if values["gating_prototypes"] != "random" and k > d + 1:
            faults.append(
                f"n_clusters={k} cannot be used with embedding_dim={d}: only {d + 1} gating prototypes can be equally "
                f"far apart there. Give embedding_dim={k - 1} or more, or gating_prototypes='random'."
            )
        return faults


class Embeddings(NamedTuple):
    """What the losses are made of."""

    experts: Tensor  # (B, K or 1, d) f
    gate: Tensor  # (B, d) g
    prototypes: Tensor  # (K, d) mu, l2-normalised
    gating_prototypes: Tensor  # (K, d) omega, l2-normalised


class MiCENet(ContrastiveNet):
    """Student, gate and both sets of prototypes.

    Args:
        settings: the method's checked parameters.
        shape: shape of one data point.
        index: of the member, for its random streams.
        groups: parts of a batch that batch norm sees one by one.
    """

    def __init__(self, settings: MiCE, shape: tuple[int, ...], index: int, groups: int) -> None:
        k, d, seed = settings.n_clusters, settings.embedding_dim, settings.random_state
        super().__init__(Student(settings, shape, index, 1 if settings.expert_heads == "shared" else k, groups))
        with torch_stream(seed, "gate weights", member=index):
            self.gate = nn.Linear(self.student.heads.in_features, d)
        start = torch.randn(k, d, generator=torch_generator(seed, "expert prototypes", member=index))
        self.prototypes = nn.Parameter(normalize(start), requires_grad=settings.prototype_update != "analytical")
        if settings.gating_prototypes == "random":
            drawn = torch.randn(k, d, generator=torch_generator(seed, "gating prototypes", member=index))
            omega = normalize(drawn)
        else:
            omega = max_mahalanobis_prototypes(k, d).float()
        self.gating_prototypes = nn.Parameter(omega, requires_grad=settings.gating_prototypes == "learned")

    def forward(self, shown: Tensor, gated: Tensor) -> Embeddings:
        """Return the embeddings of two views (B, C, H, W) of the same images, in 0 .. 1."""
        return self._embeddings(self.student.features(shown), self.student.features(gated))

    def read(self, images: Tensor) -> Embeddings:
        """Return the embeddings of images as they are, seen once."""
        features = self.student.features(images)
        return self._embeddings(features, features)

    def _embeddings(self, shown: Tensor, gated: Tensor) -> Embeddings:
        return Embeddings(
            self.student.embed(shown),
            normalize(self.gate(gated).float()),
            normalize(self.prototypes),
            normalize(self.gating_prototypes),
        )


class MiCEMember(ContrastiveMember):
    """One mixture of experts with its teacher, queue and optimiser; arguments as in `ContrastiveMember`."""

    n_views = 3  # student, teacher, gate
    settings: MiCE
    net: MiCENet

    def _new_net(self, groups: int) -> MiCENet:
        k, d = self.settings.n_clusters, self.settings.embedding_dim
        self.sums = torch.zeros(k, d, device=self.device)  # of eq. (13)
        return MiCENet(self.settings, self.shape, self.index, groups)

    def _losses(self, views: Sequence[Tensor], taught: Tensor) -> Tensor:
        with self._autocast():
            found = self._trained(views[0], views[2])
        gating, experts = self._log_probs(found, taught)
        with torch.no_grad():
            hard = posterior(gating, experts).argmax(1)
            self.sums += prototype_sums(self._of_experts(taught), hard, self.settings.n_clusters)
        return -evidence_bound(gating, experts)

    def _posterior(self, images: Tensor) -> Tensor:
        with self._autocast():
            found, taught = self.net.read(images), self.teacher(images)
        return posterior(*self._log_probs(found, taught))

    def _embedding(self, images: Tensor) -> Tensor:
        with self._autocast():
            return self.net.read(images).gate

    def _end_epoch(self) -> None:
        """Move the experts' prototypes to the teacher's embeddings of their images, eq. (13)."""
        sums = self.team.sum(self.sums)
        if self.settings.prototype_update != "gradient":
            filled = sums.norm(dim=1, keepdim=True) > 0  # an expert without images keeps its prototype
            with torch.no_grad():
                self.net.prototypes.copy_(torch.where(filled, normalize(sums), self.net.prototypes))
        self.sums.zero_()

    def _log_probs(self, found: Embeddings, taught: Tensor) -> tuple[Tensor, Tensor]:
        """Return ln p(z = k | x), eq. (4), and ln of the experts' estimates, eqs. (6) and (9), (b, K) each."""
        assert self.queue is not None
        kappa = math.inf if self.settings.gating == "uniform" else self.settings.kappa
        experts = expert_log_probs(
            self._of_experts(found.experts),
            self._of_experts(taught),
            found.prototypes if self.settings.class_information else None,
            self.queue.rows.expand(self.settings.n_clusters, -1, -1),
            tau=self.settings.tau,
            filled=self.queue.filled,
        )
        return gating_log_probs(found.gate, found.gating_prototypes, kappa), experts

    def _of_experts(self, embeddings: Tensor) -> Tensor:
        """Return embeddings (b, K, d) of (b, K or 1, d): a shared head serves all experts."""
        return embeddings.expand(-1, self.settings.n_clusters, -1)
