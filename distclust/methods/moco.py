"""Momentum contrast (MoCo) with spherical k-means, the special case and baseline of MiCE.

He et al., *Momentum Contrast for Unsupervised Visual Representation Learning*, CVPR 2020; equations are those of Tsai,
Li & Zhu, *MiCE: Mixture of Contrastive Experts for Unsupervised Image Clustering*, ICLR 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from distclust.contracts import Array, Labels, Team
from distclust.contrastive_losses import expert_log_probs
from distclust.methods.contrastive import ContrastiveClusterer, ContrastiveMember, ContrastiveNet, Student
from distclust.seeding import integer

_TRIALS, _MOST_STEPS = 10, 300  # as scikit-learn's k-means


class SphericalClusters(NamedTuple):
    """What spherical k-means found: labels (N,), unit centres (K, d) and the mean cosine to the nearest of them."""

    labels: Labels
    centres: Array
    cosine: float


def spherical_k_means(points: Array, n_clusters: int, seed: int) -> SphericalClusters:
    """Return the best of ten runs of spherical k-means (Dhillon & Modha, 2001), started by k-means++.

    A run goes on until no label changes. A cluster without points takes the point that is farthest from its centre.

    Args:
        points: (N, d), rows of length one.
        n_clusters: K, 1 .. N.
        seed: 31-bit integer.
    """
    from sklearn.cluster import kmeans_plusplus

    states = np.random.RandomState(seed)
    starts = [kmeans_plusplus(points, n_clusters, random_state=states)[0] for _ in range(_TRIALS)]
    return max((_moved(points, start) for start in starts), key=lambda found: found.cosine)


def _moved(points: Array, centres: Array) -> SphericalClusters:
    labels = np.full(len(points), -1)
    for _ in range(_MOST_STEPS):
        cosines = points @ centres.T
        before, labels = labels, cosines.argmax(1)
        if np.array_equal(before, labels):
            break
        nearest = cosines.max(1)
        for empty in np.setdiff1d(np.arange(len(centres)), labels):
            labels[nearest.argmin()], nearest[nearest.argmin()] = empty, np.inf
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, points)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(length > 0, sums / np.maximum(length, np.finfo(sums.dtype).tiny), centres)
    return SphericalClusters(labels, centres, float((points @ centres.T).max(1).mean()))


@dataclass(kw_only=True, eq=False, repr=False)
class MoCo(ContrastiveClusterer):
    """A network learns to tell images from one another, then spherical k-means clusters its embeddings.

    The two-stage baseline of MiCE, eqs. (1) and (2), Section 5.3. A method for images.

    Args: as in `MiCE`, without what is of gate and experts; tau is the temperature of eq. (1).

    Attributes: as in `EnsembleClusterer`.
    """

    def member(self, shape: tuple[int, ...], index: int, device: str = "cpu", team: Team | None = None) -> MoCoMember:
        """Return a new member; see `contracts.Method`."""
        return MoCoMember(self, shape, index, device, team)


class MoCoNet(ContrastiveNet):
    """Student and the centres of the clusters.

    Args:
        settings: the method's checked parameters.
        shape: shape of one data point.
        index: of the member, for its random streams.
        groups: parts of a batch that batch norm sees one by one.
    """

    centres: Tensor

    def __init__(self, settings: MoCo, shape: tuple[int, ...], index: int, groups: int) -> None:
        super().__init__(Student(settings, shape, index, 1, groups))
        self.register_buffer("centres", torch.zeros(settings.n_clusters, settings.embedding_dim))

    def forward(self, shown: Tensor) -> Tensor:
        """Return the embeddings (B, 1, d) of images in 0 .. 1."""
        return self.student(shown)


class MoCoMember(ContrastiveMember):
    """One student with its teacher, queue and optimiser; arguments as in `ContrastiveMember`."""

    n_views = 2  # student, teacher
    settings: MoCo
    net: MoCoNet

    def _new_net(self, groups: int) -> MoCoNet:
        return MoCoNet(self.settings, self.shape, self.index, groups)

    def _losses(self, views: Sequence[Tensor], taught: Tensor) -> Tensor:
        assert self.queue is not None
        with self._autocast():
            found = self._trained(views[0])
        filled = self.queue.filled
        return -expert_log_probs(found, taught, None, self.queue.rows, tau=self.settings.tau, filled=filled)[:, 0]

    def _end_round(self, x: Tensor, round: int) -> None:
        """Set the centres by spherical k-means."""
        seed = integer(self.settings.random_state, "spherical k-means", member=self.index, round=round)
        points = self._read(self._embedding, x).cpu().double().numpy()
        found = spherical_k_means(points, self.settings.n_clusters, seed=seed)
        self.net.centres.copy_(torch.from_numpy(found.centres))

    def _posterior(self, images: Tensor) -> Tensor:
        return (self._embedding(images) @ normalize(self.net.centres).T / self.settings.tau).softmax(1)

    def _embedding(self, images: Tensor) -> Tensor:
        with self._autocast():
            return self.net.student(images)[:, 0]
