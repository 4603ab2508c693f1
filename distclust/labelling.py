"""From latents to labels: UMAP to two dimensions, then HDBSCAN cut at K clusters, a Gaussian mixture or k-means.

"auto" also finds groups of very uneven size: see `auto_label`.

**Every point gets a label.** HDBSCAN leaves some points as noise; here they take the label of the nearest clustered
point in the space that was clustered. A point without a label could never be agreed on, nor be reported to its owner.

**Same latents, same seed, same bytes**: UMAP runs on one thread, nothing reads a global random state, and the distances
given to UMAP come out alike however BLAS adds up. UMAP makes much of little, so this ends where a processor rounds
otherwise. With AVX-512 and without, results are the same; without instructions that multiply and add at once (x86 until
2013, or another architecture) they are not.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from distclust.contracts import Labels
from distclust.errors import DataError, ParameterError, RunError, UnknownNameError

if TYPE_CHECKING:
    import torch

Points = npt.NDArray[Any]  # (N, D) float32 or float64
Space = npt.NDArray[np.float64]  # (N, D)

_MIN_SAMPLES = 10  # of HDBSCAN, in the authors' program; where N / 2K is less, so many would smooth clusters away
# Choices of `auto_label`, made on single groups without structure (normal, t, exponential, uniform, in 1 to 20
# dimensions, 300 and 1,000 points) and on groups of known uneven sizes; never on true classes of real data.
_SMALL, _SMALL_MIN_SAMPLES = 20, 3  # below 20 points a cluster, 10 min_samples would smooth it away
_FEWEST = 5  # points that make a cluster at least
_CLEAR = 4.0  # a cut of the layout is clear if it persists so long; cuts of single groups reach 3
_CLEARER = 2  # a cut into smaller clusters must be so many times as clear, in logarithms, to replace one into larger
_UNCLEAR = 1.5  # below it the cut at N / 2K is no evidence against a group of less than 1%
_OUTLIERS = 0.01  # share of the points below which a cluster may be outliers
_MOST_NOISE = 0.1  # share of the points that a clear cut may leave as noise
_SAME = 0.95  # adjusted Rand index from which two cuts are the same
_TREE_WORK = 2_000**2 * 50  # N^2 D up to which the tree of the latents themselves costs a small part of UMAP

_MIN_NEIGHBORS = 10  # 30 N / 70,000 alone would leave small data with graphs in shreds
_CURVE = {"a": 1.9328084, "b": 0.7904950}  # of UMAP at min_dist = 0; its own fit ends elsewhere on other processors
# UMAP takes 500 epochs up to 10,000 points and 200 above. On 9,298 latents 200 take half the time and are as good: its
# trustworthiness is 0.966 against 0.967, and runs of other seeds agree as well (ARI 0.988 against 0.984).
_EPOCHS = 200
# Of so many mixtures the likeliest is taken. With one, as in the paper, mixtures of five embeddings of USPS agree at an
# ARI of 0.78 to 0.84; with ten, at 0.93 to 0.95.
_MIXTURE_TRIALS = 10
_LAST_SEED = 2**32 - 1  # that numpy's RandomState takes
_BLOCK = 64  # rows of the table of distances held at once: with N near 10,000 they stay in the cache

# UMAP's own index of neighbours costs a process some 20 s of compilation before it finds the first one; after that
# 0.1 s for 9,298 x 50 points, 0.3 s for 20,000 and 4.4 s for 70,000, at a recall of 99%. The exact search takes 0.15 s,
# 0.95 s and, by N^2, 12 s: one thread of an EPYC, 2026-11. Half of it is BLAS, which goes with D, and half selection,
# which costs as much as 50 more dimensions. A process labels some 30 times, so the index pays from 20,000 points on.
_EXACT_WORK = 20_000**2 * (50 + 50)

# A study of the number of clusters labels the same latents at the same seed once for each number. The layouts are kept:
# of 2,000 points a dozen kilobytes each, and nine tenths of the time of such a study.
_MOST_REMEMBERED = 64
_REMEMBERED: dict[tuple[bytes, tuple[int, ...], int, int, bool], Points] = {}


class NoCut(RunError):
    """No level of the linkage tree gives the number of clusters asked for.

    Args:
        n_clusters: what was asked for.
        min_cluster_size: points that make a cluster.
        possible: the numbers of clusters that the tree can give, ascending.
    """

    def __init__(self, n_clusters: int, min_cluster_size: int, possible: tuple[int, ...]) -> None:
        self.n_clusters, self.min_cluster_size, self.possible = n_clusters, min_cluster_size, possible
        super().__init__(
            f"no level of the linkage tree gives exactly {n_clusters} clusters of at least {min_cluster_size} points; "
            f"it can give {_spans(possible)}. Take a smaller min_cluster_size, or umap-gmm, which cuts no tree."
        )

    def __reduce__(self) -> tuple[type[NoCut], tuple[int, int, tuple[int, ...]]]:
        return type(self), (self.n_clusters, self.min_cluster_size, self.possible)  # errors travel between processes


class Collapsed(RunError):
    """There are fewer distinct latents than clusters.

    Args:
        n_distinct: number of distinct latents.
        n_needed: how many there must be at least.
    """

    def __init__(self, n_distinct: int, n_needed: int) -> None:
        self.n_distinct, self.n_needed = n_distinct, n_needed
        super().__init__(
            f"the latents hold {n_distinct} distinct points and {n_needed} are needed: the encoder has collapsed, or "
            "the data are all alike. Train it again with another seed or a lower learning rate, or do without it."
        )

    def __reduce__(self) -> tuple[type[Collapsed], tuple[int, int]]:
        return type(self), (self.n_distinct, self.n_needed)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest neighbours of each point, nearest first; a point is the first neighbour of itself.

    Args:
        indices: (N, k) int32.
        distances: (N, k) float32, Euclidean.
    """

    indices: npt.NDArray[np.int32]
    distances: npt.NDArray[np.float32]


class AutoLabels(NamedTuple):
    """What `auto_label` found.

    Args:
        labels: (N,) int64 in 0 .. K - 1.
        by: the way of `label` that gave the labels: "umap-hdbscan", "hdbscan" or "umap-gmm".
        min_cluster_size: points that made a cluster in HDBSCAN's tree; 0 for a mixture.
    """

    labels: Labels
    by: str
    min_cluster_size: int


class Cut(NamedTuple):
    """A linkage tree cut at K clusters.

    Args:
        labels: (N,) int64, -1 = noise.
        persistence: distance at which the number of clusters changes above the cut, divided by that below it, >= 1.
    """

    labels: Labels
    persistence: float


def label(
    latents: npt.ArrayLike | torch.Tensor,
    n_clusters: int,
    *,
    by: str = "umap-hdbscan",
    seed: int = 0,
    n_neighbors: int | None = None,
    min_cluster_size: int | None = None,
) -> Labels:
    """Label every point with one of K clusters, numbered in the order in which the points meet them.

    All K clusters have points, except that a Gaussian mixture may leave a component empty.

    Args:
        latents: (N, D) finite numbers, an array or a tensor on any device.
        n_clusters: number of clusters K, 1 .. N.
        by: "auto", see `auto_label`; "umap-hdbscan", "umap-gmm", "umap-k-means"; or without UMAP "hdbscan", "gmm",
            "k-means". HDBSCAN has 10 min_samples, or N / 2K if that is less, and its noise takes the label of the
            nearest clustered point; a mixture has full covariances; mixture and k-means are the best of 10.
        seed: 0 .. 2**32 - 1, for UMAP, the mixture and k-means; HDBSCAN draws nothing.
        n_neighbors: of UMAP, as in `embed`.
        min_cluster_size: of HDBSCAN, points that make a cluster, >= 1; None = N / 2K.

    Returns:
        (N,) int64 labels in 0 .. K - 1.

    Raises:
        DataError: the latents are not (N, D) finite numbers.
        ParameterError: a number is out of range.
        UnknownNameError: `by` is not known.
        NoCut: HDBSCAN's tree has no level with exactly K clusters.
        Collapsed: there are fewer than K distinct latents.

    Source:
        SPC, section 3.2, and the authors' program, which leaves noise without a label.
    """
    if by == "auto":
        return auto_label(
            latents, n_clusters, seed=seed, n_neighbors=n_neighbors, min_cluster_size=min_cluster_size
        ).labels
    if by not in _WAYS:
        raise UnknownNameError("way of labelling", by, ["auto", *_WAYS])
    points = _checked(latents, n_clusters, seed, n_neighbors, min_cluster_size)
    if n_clusters in (1, len(points)):  # nothing to find out, and too few points for some of the ways
        return np.arange(len(points)) % n_clusters
    flatten, cluster = _WAYS[by]
    space = embed(latents, seed, n_neighbors) if flatten else points
    size = min_cluster_size or _paper_size(len(points), n_clusters)
    return _in_order_met(cluster(space.astype(np.float64), n_clusters, seed, size))


def auto_label(
    latents: npt.ArrayLike | torch.Tensor,
    n_clusters: int,
    *,
    seed: int = 0,
    n_neighbors: int | None = None,
    min_cluster_size: int | None = None,
) -> AutoLabels:
    """Label every point as `label` does, by the way and the minimum cluster size that the data support.

    The first choice is the paper's: UMAP, then HDBSCAN's tree cut at K clusters of at least N / 2K points. It cannot
    find a smaller group. Unless that cut is beyond doubt, cuts at N / 4K, N / 8K, ... down to 5 points are tried, in
    the layout and in the latents themselves. A cut is clear if its K clusters stay apart over a wide range of distances
    and it leaves at most 10% of the points as noise; one into smaller clusters must be twice as clear as one into
    larger. A cluster of less than 1% of the points counts only where the cut at N / 2K is not clear at all, so that a
    few outliers do not replace a group. If no cut is clear, the labels are those of the cut at N / 2K, or of a Gaussian
    mixture if there is none.

    Args:
        latents: (N, D) finite numbers, an array or a tensor on any device.
        n_clusters: number of clusters K, 1 .. N.
        seed: 0 .. 2**32 - 1, for UMAP and the mixture.
        n_neighbors: of UMAP, as in `embed`.
        min_cluster_size: points that make a cluster, >= 1; if given, no other size is tried.

    Raises:
        DataError: the latents are not (N, D) finite numbers.
        ParameterError: a number is out of range.
        Collapsed: there are fewer than K distinct latents.
    """
    points = _checked(latents, n_clusters, seed, n_neighbors, min_cluster_size)
    n_points = len(points)
    size = min_cluster_size or _paper_size(n_points, n_clusters)
    if n_clusters in (1, n_points):
        return AutoLabels(np.arange(n_points) % n_clusters, "umap-hdbscan", size)
    layout = embed(latents, seed, n_neighbors).astype(np.float64)
    tree = _tree(layout, _min_samples(n_points, n_clusters))
    paper = _try_cut(tree, n_clusters, size)
    if min_cluster_size is None and (paper is None or paper.persistence < _CLEAR**_CLEARER):
        other = _clear_cut(layout, tree, points.astype(np.float64), n_clusters, paper.persistence if paper else 1.0)
        if other is not None:
            return other
    if paper is None:
        return AutoLabels(_in_order_met(_by_mixture(layout, n_clusters, seed, size)), "umap-gmm", 0)
    return AutoLabels(_in_order_met(_with_noise_labelled(layout, paper.labels)), "umap-hdbscan", size)


def embed(latents: npt.ArrayLike | torch.Tensor, seed: int, n_neighbors: int | None = None) -> Points:
    """Lay the points out in two dimensions with UMAP, min_dist = 0, 200 epochs, all else at its defaults.

    Neighbours are searched exactly where that is cheaper than UMAP's approximate index, and always for a tensor on
    CUDA.

    Args:
        latents: (N, D) finite numbers, N >= 3, an array or a tensor on any device.
        seed: 0 .. 2**32 - 1.
        n_neighbors: >= 2, the point itself included; None = 30 N / 70,000 and at least 10. Never more than N - 1.

    Returns:
        (N, 2) positions.

    Raises:
        DataError: the latents are not (N, D) finite numbers, or fewer than 3 points.
        ParameterError: a number is out of range.
        Collapsed: all latents are the same.

    Source:
        McInnes et al. 2018; parameters from SPC, section 3.2.
    """
    points = _points(latents)
    n_points = len(points)
    if n_points < 3:
        raise DataError(f"there are {n_points} latents; UMAP needs at least 3: one point with two neighbours.")
    _check(_fault("seed", seed, 0, _LAST_SEED), [] if n_neighbors is None else _fault("n_neighbors", n_neighbors, 2))
    _check_distinct(points, 2)
    points, _ = _scaled(points)
    n_neighbors = min(n_neighbors or max(_MIN_NEIGHBORS, round(30 * n_points / 70_000)), n_points - 1)
    on_cuda = bool(getattr(latents, "is_cuda", False))
    key = (hashlib.blake2b(points.tobytes()).digest(), points.shape, seed, n_neighbors, on_cuda)
    if key not in _REMEMBERED:
        _REMEMBERED[key] = _embedded(latents, points, seed, n_neighbors)
    if len(_REMEMBERED) > _MOST_REMEMBERED:
        _REMEMBERED.pop(next(iter(_REMEMBERED)))
    return _REMEMBERED[key].copy()


def _embedded(latents: Any, points: Points, seed: int, n_neighbors: int) -> Points:
    """Do as `embed` does, with scaled points (N, D) and all else checked."""
    n_points, n_dimensions = points.shape
    known: dict[str, Any] = {}
    if getattr(latents, "is_cuda", False) or n_points**2 * (n_dimensions + 50) <= _EXACT_WORK:
        found = _neighbours(_beside(latents, points), n_neighbors, _BLOCK)
        known["precomputed_knn"] = (found.indices, found.distances, None)
    with warnings.catch_warnings(), _torch_threads_kept():
        # UMAP says that it does without what we do not use: its networks, and placing new points
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        warnings.filterwarnings("ignore", r"precomputed_knn\[2\] .* is not an NNDescent object", UserWarning)
        # many equal points: UMAP starts from random positions instead, drawn from the seed
        warnings.filterwarnings("ignore", "Spectral initialisation failed!", UserWarning)
        from umap import UMAP

        start = "spectral" if n_points > 3 else "random"  # three eigenvectors of a 3 x 3 matrix are refused
        umap = UMAP(n_neighbors, n_epochs=_EPOCHS, **_CURVE, init=start, random_state=seed, n_jobs=1, **known)
        positions: Points = umap.fit_transform(points)
    return positions


@contextlib.contextmanager
def _torch_threads_kept() -> Iterator[None]:
    """Run the block and give torch its number of threads back: UMAP sets that of OpenMP, which torch shares."""
    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    try:
        yield
    finally:
        if torch is not None:
            torch.set_num_threads(before)


def nearest_neighbours(points: npt.ArrayLike | torch.Tensor, n_neighbors: int, block: int = _BLOCK) -> Neighbours:
    """Find the nearest neighbours of each point by comparing it with all others, N^2 D operations.

    Equal distances are taken in the order of the points. At least twice as many candidates as are asked for are chosen
    by |a|^2 + |b|^2 - 2ab, then ordered by their distances proper. In float32 the choice is blind to differences in
    distance within some 1/2,000 of the extent of the data; on CUDA it is made by the distances proper.

    Args:
        points: (N, D) finite numbers; a tensor on CUDA is searched there.
        n_neighbors: k, 1 .. N, the point itself included.
        block: points that are compared with all others at once, >= 1; memory is block x N.

    Raises:
        DataError: the points are not (N, D) finite numbers.
        ParameterError: n_neighbors or block is out of range.
    """
    array = _points(points)
    _check(
        _fault("n_neighbors", n_neighbors, 1, len(array), "there are as many points"),
        _fault("block", block, 1),
    )
    array, exponent = _scaled(array)
    found = _neighbours(_beside(points, array), n_neighbors, block)
    return Neighbours(found.indices, np.ldexp(found.distances, exponent))


def cut(tree: npt.ArrayLike, n_clusters: int, min_cluster_size: int) -> Labels:
    """Cut a linkage tree at a level that leaves exactly K clusters; of several the highest, with the least noise.

    A level is a distance: all merges up to it are done, those at equal distances together. Components below the
    minimum size are noise. One walk over the tree counts the clusters of all levels.

    Args:
        tree: (N - 1, 4) rows of left, right, distance, size, by ascending distance, as scipy and HDBSCAN's
            `single_linkage_tree_.to_numpy()` have it.
        n_clusters: number of clusters K, >= 1.
        min_cluster_size: points that make a cluster, >= 1.

    Returns:
        (N,) labels in 0 .. K - 1, clusters in the order in which the points meet them; -1 = noise.

    Raises:
        DataError: the tree is not (N - 1, 4).
        ParameterError: a number is below 1.
        NoCut: no level leaves exactly K clusters.
    """
    return persistent_cut(tree, n_clusters, min_cluster_size).labels


def persistent_cut(tree: npt.ArrayLike, n_clusters: int, min_cluster_size: int) -> Cut:
    """Return the labels of `cut` and for how long the cut persists; arguments and errors as there.

    The K clusters of the highest level with K clusters exist from the distance of the merge that made them K to that of
    the merge that ends it. The ratio of the two is large where the clusters lie far apart compared with the gaps inside
    them, and near 1 where a cluster was cut in two; inf where the clusters are K distinct points.
    """
    rows = np.asarray(tree, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise DataError(f"the tree has shape {rows.shape}; it must be (points - 1, 4): left, right, distance, size.")
    _check(_fault("n_clusters", n_clusters, 1), _fault("min_cluster_size", min_cluster_size, 1))
    n_points = len(rows) + 1
    pairs = rows[:, :2].astype(np.int64)
    sizes = np.append(np.ones(n_points, dtype=np.int64), rows[:, 3].astype(np.int64))  # (2N - 1,) of each node
    big = sizes >= min_cluster_size
    gained = big[n_points:].astype(np.int64) - big[pairs].sum(axis=1)  # -1 two clusters join, 1 one comes up, 0 else
    counts = np.append(big[:n_points].sum(), gained).cumsum()  # (N,) after so many merges
    distances = np.concatenate([[-np.inf], rows[:, 2], [np.inf]])  # no merge at all is a level, too
    levels = np.flatnonzero(distances[1:] != distances[:-1])  # merges done at each; between equal distances is none
    fits = counts[levels] == n_clusters
    if not fits.any():
        raise NoCut(n_clusters, min_cluster_size, tuple(np.unique(counts[levels]).tolist()))
    highest = int(np.flatnonzero(fits)[-1])
    lowest = 1 + int(np.max(np.flatnonzero(~fits[:highest]), initial=-1))  # of the levels in a row with K clusters
    roots = _roots(pairs[: levels[highest]], n_points)
    low, high = max(0.0, float(distances[levels[lowest]])), float(distances[levels[highest] + 1])
    return Cut(_in_order_met(np.where(big[roots], roots, -1)), high / low if low > 0 else np.inf)


def _roots(pairs: npt.NDArray[np.int64], n_points: int) -> npt.NDArray[np.int64]:
    """Return the topmost node above each point (N,) after the first merges (M, 2)."""
    above = np.arange(n_points + len(pairs))
    above[pairs] = np.arange(n_points, n_points + len(pairs))[:, None]
    while not np.array_equal(higher := above[above], above):  # the way up is halved each time
        above = higher
    return above[:n_points]


def _in_order_met(names: npt.NDArray[np.int64]) -> Labels:
    """Number the clusters in the order in which the points meet them; negative names become -1."""
    labels = np.full(len(names), -1, dtype=np.int64)
    clustered = names >= 0
    _, first, inverse = np.unique(names[clustered], return_index=True, return_inverse=True)
    labels[clustered] = np.argsort(np.argsort(first))[inverse]
    return labels


def _clear_cut(layout: Space, coarse: Space, points: Space, n_clusters: int, paper: float) -> AutoLabels | None:
    """Return the clearest cut of the layout (N, 2) or the points (N, D), large clusters before small, if one is clear.

    Args:
        layout: of UMAP.
        coarse: its linkage tree.
        points: the latents.
        n_clusters: number of clusters K.
        paper: persistence of the layout's cut at N / 2K.
    """
    min_samples = min(_SMALL_MIN_SAMPLES, _min_samples(len(layout), n_clusters))
    fine = _tree(layout, min_samples)
    own = _tree(points, min_samples) if len(points) * points.size <= _TREE_WORK else None
    best, most, best_size = None, 1.0, 0
    for size in _sizes(len(layout), n_clusters):
        cuts = [
            _Candidate("umap-hdbscan", layout, _try_cut(coarse if size >= _SMALL else fine, n_clusters, size)),
            _Candidate("hdbscan", points, None if own is None else _try_cut(own, n_clusters, size)),
        ]
        candidate, evidence = _clearest(cuts, paper)
        if evidence >= most * (1 if best is None else _CLEARER):
            best, most, best_size = candidate, evidence, size
    return None if best is None else AutoLabels(best.labels(), best.by, best_size)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A cut of the tree of a space (N, D), None where there is none."""

    by: str
    space: Space
    cut: Cut | None

    def labels(self) -> Labels:
        """Return the labels with those of noise filled in."""
        assert self.cut is not None
        return _in_order_met(_with_noise_labelled(self.space, self.cut.labels.copy()))

    def evidence(self, paper: float) -> float:
        """Return how clear the cut is, from 1 on clear enough."""
        if self.cut is None:
            return 0.0
        smallest = np.bincount(self.labels()).min()
        is_noisy = (self.cut.labels < 0).mean() > _MOST_NOISE
        if is_noisy or (smallest < _OUTLIERS * len(self.space) and paper >= _UNCLEAR):
            return 0.0
        # in the latents, gaps at the edge of a single group are the wider the fewer points lie beyond
        needed = _CLEAR if self.by == "umap-hdbscan" else max(1.5, 1 + 10 / smallest)
        return float(np.log(self.cut.persistence) / np.log(needed))


def _clearest(cuts: list[_Candidate], paper: float) -> tuple[_Candidate, float]:
    """Return the clearer of two cuts and its evidence, that of both together where they are the same."""
    from sklearn.metrics import adjusted_rand_score

    evidence = [cut.evidence(paper) for cut in cuts]
    best = int(np.argmax(evidence))
    if min(evidence) > 0 and adjusted_rand_score(*(cut.labels() for cut in cuts)) >= _SAME:
        return cuts[best], sum(evidence)
    return cuts[best], evidence[best]


def _sizes(n_points: int, n_clusters: int) -> Iterator[int]:
    """Yield N / 2K, N / 4K, ... and at last the fewest points that make a cluster."""
    size = _paper_size(n_points, n_clusters)
    while size > _FEWEST:
        yield size
        size //= 2
    yield min(_FEWEST, _paper_size(n_points, n_clusters))


def _paper_size(n_points: int, n_clusters: int) -> int:
    """Return N / 2K, the points that make a cluster in the authors' program."""
    return max(1, n_points // (2 * n_clusters))


def _min_samples(n_points: int, n_clusters: int) -> int:
    return min(_MIN_SAMPLES, _paper_size(n_points, n_clusters))


def _try_cut(tree: Space, n_clusters: int, min_cluster_size: int) -> Cut | None:
    try:
        return persistent_cut(tree, n_clusters, min_cluster_size)
    except NoCut:
        return None


def _tree(space: Space, min_samples: int) -> Space:
    """Return HDBSCAN's linkage tree (N - 1, 4) of points (N, D)."""
    from hdbscan import HDBSCAN

    # The exact spanning tree costs no more in two dimensions, and no level of it depends on the order of the points.
    # HDBSCAN's own clusters are not used; its minimum size has no bearing on the tree.
    density = HDBSCAN(max(2, len(space) // 2), min_samples=min_samples, approx_min_span_tree=False, core_dist_n_jobs=1)
    return np.asarray(density.fit(space).single_linkage_tree_.to_numpy(), dtype=np.float64)


def _by_hdbscan(space: Space, n_clusters: int, seed: int, min_cluster_size: int) -> Labels:
    tree = _tree(space, _min_samples(len(space), n_clusters))
    return _with_noise_labelled(space, cut(tree, n_clusters, min_cluster_size))


def _with_noise_labelled(space: Space, labels: Labels) -> Labels:
    """Give each point without a label (-1) that of the nearest point with one."""
    clustered = labels >= 0
    if clustered.all():
        return labels
    _, nearest = KDTree(space[clustered]).query(space[~clustered])
    labels[~clustered] = labels[clustered][nearest]
    return labels


def _by_mixture(space: Space, n_clusters: int, seed: int, min_cluster_size: int) -> Labels:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    centred = space - space.mean(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # after 100 steps of EM the labels hardly move
        # at unit scale, for which the 1e-6 that is added to variances is meant
        mixture = GaussianMixture(n_clusters, n_init=_MIXTURE_TRIALS, random_state=seed)
        return np.asarray(mixture.fit_predict(centred / centred.std()), dtype=np.int64)


def _by_k_means(space: Space, n_clusters: int, seed: int, min_cluster_size: int) -> Labels:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Number of distinct clusters", ConvergenceWarning)  # said by the error below
        labels = np.asarray(KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(space), dtype=np.int64)
    if (n_found := len(np.unique(labels))) < n_clusters:  # so far apart that rounding makes the rest equal
        raise Collapsed(n_found, n_clusters)
    return labels


# name -> (is UMAP first?, what clusters the points)
_WAYS: dict[str, tuple[bool, Callable[[Space, int, int, int], Labels]]] = {
    "umap-hdbscan": (True, _by_hdbscan),
    "umap-gmm": (True, _by_mixture),
    "umap-k-means": (True, _by_k_means),
    "hdbscan": (False, _by_hdbscan),
    "gmm": (False, _by_mixture),
    "k-means": (False, _by_k_means),
}


def _neighbours(points: Any, k: int, block: int) -> Neighbours:
    """Search scaled points, an array or a tensor on CUDA."""
    search = _search if isinstance(points, np.ndarray) else _search_with_torch
    indices, distances = (np.concatenate(blocks) for blocks in zip(*search(points, k, block), strict=True))
    return Neighbours(indices.astype(np.int32), distances)


def _search(points: Points, k: int, block: int) -> Iterator[tuple[npt.NDArray[np.int64], Points]]:
    """Yield the indices (B, k) and distances (B, k) of a block of rows at a time."""
    n_points, wide = len(points), min(len(points), 2 * k)
    halves = np.einsum("nd,nd->n", points, points) / 2
    for start in range(0, n_points, block):
        rows = points[start : start + block]  # (B, D)
        each = np.arange(len(rows))
        table = rows @ points.T  # (B, N)
        np.subtract(halves, table, out=table)  # half the squared distance, less half the row's own square
        table[each, start + each] = -np.inf
        near = _candidates(table, wide)
        row, column = np.divmod(near, n_points)
        apart = points[column] - rows[row]
        squared = np.einsum("md,md->m", apart, apart)
        squared[column == start + row] = -1  # a point comes before its duplicates
        order = np.lexsort((squared, row))  # stable: equal distances stay in the order of the points
        best = order[np.searchsorted(row, each)[:, None] + np.arange(k)]  # (B, k)
        yield column[best], np.sqrt(squared[best].clip(min=0))


def _candidates(table: Points, wide: int) -> npt.NDArray[np.int64]:
    """Return ascending flat indices that hold the least of each row of a table (B, N), `wide` of them or some more."""
    n_rows, n_groups = len(table), table.shape[1] // 8
    # of the least of each group of 8, the wide-th is a bound: found at an eighth of the cost and hardly too high
    least = table[:, : 8 * n_groups].reshape(n_rows, 8, n_groups).min(axis=1) if n_groups >= wide else table
    near = np.flatnonzero(table <= _least(least, wide))
    if len(near) > 4 * wide * n_rows:  # many are equal
        near = np.flatnonzero(_first(table, _least(table, wide), wide))
    return near


def _least(table: Points, k: int) -> Points:
    """Return the k-th least of each row (B, 1)."""
    return np.partition(table, k - 1, axis=1)[:, k - 1 : k]


def _search_with_torch(points: torch.Tensor, k: int, block: int) -> Iterator[tuple[npt.NDArray[np.int64], Points]]:
    """Do as `_search` does, on the device of the points."""
    import torch

    for start in range(0, len(points), block):
        rows = points[start : start + block]  # (B, D)
        own = torch.arange(start, start + len(rows), device=points.device)[:, None]
        # by differences: a matrix product would be rounded to TF32 where the user allows it
        table = torch.cdist(rows, points, compute_mode="donot_use_mm_for_euclid_dist").scatter_(1, own, -1)  # (B, N)
        last = table.topk(k, dim=1, largest=False).values[:, -1:]
        near = _first(table, last, k).nonzero()[:, 1].reshape(-1, k)
        distances, order = table.gather(1, near).sort(dim=1, stable=True)
        yield near.gather(1, order).cpu().numpy(), distances.clamp(min=0).cpu().numpy()


def _first(table: Any, last: Any, k: int) -> Any:
    """Mark the k least of each row of a table (B, N), arrays or tensors, given the k-th (B, 1); ties from the left."""
    ties = table == last
    below = table < last
    return below | (ties & (ties.cumsum(1) <= k - below.sum(1)[:, None]))


def _scaled(points: Points) -> tuple[Points, int]:
    """Return the points about their median, the longest of length 1/2 .. 1, and the power of two they were divided by.

    Up to rounding, distances change by that power alone. Sums of squares lose little then, and UMAP can place the parts
    of a graph in several pieces, which it does by exp(-d^2). Taking a median away, unlike a mean, leaves equal
    distances of numbers with few digits equal.
    """
    centred = points - np.median(points.astype(np.float64), axis=0)
    exponent = int(np.frexp(np.abs(centred).max())[1])
    centred = np.ldexp(centred, -exponent)  # so that no square is out of bounds
    more = int(np.frexp(np.sqrt(np.einsum("nd,nd->n", centred, centred).max()))[1])
    return np.ldexp(centred, -more).astype(np.float32), exponent + more


def _beside(given: Any, points: Points) -> Any:
    """Return the points as a tensor on the device of what was given if that is on CUDA, else as they are."""
    if not getattr(given, "is_cuda", False):
        return points
    import torch

    return torch.from_numpy(points).to(given.device)


def _points(latents: Any) -> Points:
    """Check latents and return them as a C-contiguous array, float64 where they are, else float32."""
    if hasattr(latents, "detach"):
        tensor = latents.detach().cpu()
        array = (tensor if str(tensor.dtype) == "torch.float64" else tensor.float()).numpy()
    else:
        array = np.asarray(latents)
    if array.ndim != 2 or array.size == 0:
        raise DataError(
            f"the latents have shape {array.shape}; they must be (points, dimensions), at least one of each."
        )
    if array.dtype.kind not in "fiub":
        raise DataError(f"the latents are of {array.dtype}; they must be numbers: convert them to float32.")
    narrow = np.result_type(array.dtype, np.float32) == np.float32
    with np.errstate(over="ignore"):
        points = np.ascontiguousarray(array, dtype=np.float32 if narrow else np.float64)
    broken = np.flatnonzero(~(np.abs(points) <= np.finfo(np.float32).max).all(axis=1))  # so are their distances
    if len(broken):
        raise DataError(
            f"{len(broken)} of {len(points)} latents are not finite in float32, the first is number {broken[0]}: "
            f"leave them out, or find out where training left the numbers."
        )
    return points


def _checked(latents: Any, n_clusters: int, seed: int, n_neighbors: int | None, min_cluster_size: int | None) -> Points:
    """Check what `label` takes and return the latents as float32, scaled where that would lose digits."""
    points = _points(latents)
    _check(
        _fault("n_clusters", n_clusters, 1, len(points), "there are as many latents"),
        _fault("seed", seed, 0, _LAST_SEED),
        [] if n_neighbors is None else _fault("n_neighbors", n_neighbors, 2),
        [] if min_cluster_size is None else _fault("min_cluster_size", min_cluster_size, 1),
    )
    _check_distinct(points, n_clusters)
    return _scaled(points)[0] if points.dtype == np.float64 else points  # as networks see it, and alike in all units


def _check_distinct(points: Points, n_needed: int) -> None:
    seen = set()
    for row in points:  # as a rule the first rows settle it
        seen.add(row.tobytes())
        if len(seen) == n_needed:
            return
    raise Collapsed(len(seen), n_needed)


def _check(*faults: list[str]) -> None:
    if any(faults):
        raise ParameterError([fault for some in faults for fault in some])


def _fault(name: str, value: object, low: int, high: int | None = None, why: str = "") -> list[str]:
    """Return a sentence if the value is no integer in low .. high, else none."""
    if isinstance(value, int | np.integer) and low <= value and (high is None or value <= high):
        return []
    allowed = f"at least {low}" if high is None else f"in {low} .. {high}"
    return [f"{name} is {value!r}; it must be an integer, {allowed}{why and f': {why}'}."]


def _spans(numbers: tuple[int, ...]) -> str:
    """Return ascending numbers as in "0 to 4, 6"."""
    known = set(numbers)
    starts, ends = [n for n in numbers if n - 1 not in known], [n for n in numbers if n + 1 not in known]
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in zip(starts, ends, strict=True))
