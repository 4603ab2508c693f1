"""Figures of a labelling: with true classes, without them, of probabilities and of latents. Pure functions.

**Points without a label** (-1). In `accuracy` they are wrong: a method that leaves points out gains nothing. In all
other comparisons (`normalised_mutual_information`, `adjusted_rand_index`, `kl_star`, `stability`) they form one more
cluster, so that every figure is finite and a labelling without any label scores as a collapsed one does.

**Points without a known class** (-1 in y) are left out.

**Clusters and classes** are matched by the Hungarian method; there may be more of either. Names may be any integers:
time and memory grow with the pairs of cluster and class that occur, not with the product of their numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import rel_entr

from distclust import seeding
from distclust.contracts import Array, Labels
from distclust.errors import DataError, ParameterError
from distclust.matching import Table, cells, one_to_one, tabled, weight

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_TEST_SHARE = 0.33  # of the points a probe is scored on, as in the authors' program
_MOST_CELLS = 1 << 27  # of a contingency table that is returned: 1 GB
_ROW_SUM_TOLERANCE = 1e-3  # half precision rounds a row's sum by this much


# With true classes


def contingency(a: npt.ArrayLike, b: npt.ArrayLike) -> Counts:
    """Count the points of each pair of labels.

    Args:
        a: (N,) integers >= -1.
        b: (N,) integers >= -1. Points with -1 in either are left out.

    Returns:
        (max(a) + 1, max(b) + 1) counts.

    Raises:
        DataError: empty, of different lengths, not integers or below -1; or names so great that the table would have
            more than 134 million cells.
    """
    rows, columns = _labels("a", a), _labels("b", b)
    _same_length("a", rows, "b", columns)
    both = (rows >= 0) & (columns >= 0)
    n_rows, n_columns = int(rows.max()) + 1, int(columns.max()) + 1
    if n_rows * n_columns > _MOST_CELLS:
        raise DataError(
            f"a goes up to {n_rows - 1:,} and b to {n_columns - 1:,}, too many for a table: renumber them, as in "
            "np.unique(a, return_inverse=True)[1]."
        )
    table = tabled(rows[both], columns[both], (n_rows, n_columns))
    return np.asarray(table.toarray() if sparse.issparse(table) else table)


def accuracy(labels: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Return the share of points whose cluster is matched with their class, under the best matching one to one.

    Args:
        labels: (N,) integers >= -1; a point without a label is wrong, and so is one in a cluster left without a class.
        y: (N,) true classes, integers >= -1, -1 = unknown.

    Returns:
        0 .. 1.

    Raises:
        DataError: empty, of different lengths, not integers, below -1, or no class is known.

    Source:
        CA, section 4 (ACC); SPC, section 5.
    """
    table = _against_classes(labels, y)
    named = table[:-1]
    return float(weight(named, one_to_one(named)) / table.sum())


def normalised_mutual_information(labels: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Return the mutual information over the arithmetic mean of the two entropies.

    Args and Raises as in `accuracy`; points without a label form one more cluster.

    Returns:
        0 .. 1; 1 where neither labelling divides the points, as in scikit-learn.

    Source:
        SPC, section 5: 2 I / (H + H).
    """
    table = _against_classes(labels, y)
    joint, rows, columns = _entropy(cells(table)), _entropy(table.sum(axis=1)), _entropy(table.sum(axis=0))
    if rows + columns == 0:
        return 1.0
    return float(np.clip(2 * (rows + columns - joint) / (rows + columns), 0, 1))


def adjusted_rand_index(labels: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Return the share of pairs of points on which two labellings agree, adjusted for chance.

    Args and Raises as in `accuracy`; points without a label form one more cluster.

    Returns:
        At most 1; 0 is expected by chance.

    Source:
        CA, section 4 (ARI).
    """
    return _adjusted_rand(_against_classes(labels, y))


def kl_star(labels: npt.ArrayLike, y: npt.ArrayLike, n_clusters: int) -> float:
    """Return how far the sizes of the clusters are from those of the classes: KL(clusters || classes), natural log.

    Clusters and classes are matched first. A cluster left without a class counts towards the class most of its points
    are of, so the figure is finite with more clusters than classes; a class left without a cluster adds 0, as
    0 log 0 = 0. All points in one cluster and 10 equal classes give log 10 = 2.30.

    Args:
        labels: (N,) integers in -1 .. n_clusters - 1; points without a label form one more cluster.
        y: (N,) true classes, integers >= -1, -1 = unknown.
        n_clusters: number of clusters, >= 1.

    Returns:
        In nats, >= 0.

    Raises:
        DataError: as in `accuracy`, or a label is not below n_clusters.
        ParameterError: n_clusters is below 1.

    Source:
        CA, section 4 and Tables 1, 2, 4 (hard KL*), 5. The VarM column of
        Table 6 is in bits: a collapse to 1 of 100 clusters has 6.64 there, log2 100, and 4.61 here.
    """
    _check_range(_labels("labels", labels), n_clusters)
    return _kl_from_classes(_against_classes(labels, y))


def soft_kl_star(probabilities: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Return KL* with every point divided over the clusters by its probabilities.

    Args:
        probabilities: (N, K), rows sum to 1.
        y: (N,) true classes, integers >= -1, -1 = unknown.

    Returns:
        In nats, >= 0.

    Raises:
        DataError: not probabilities, or y as in `accuracy`.

    Source:
        CA, Table 4 (soft KL*).
    """
    p = _probabilities(probabilities)
    classes = _known(_same_length("probabilities", p, "y", _labels("y", y)))
    p, classes = p[classes >= 0], _consecutive(classes[classes >= 0])
    table = np.stack([np.bincount(classes, weights=column) for column in p.T])
    return _kl_from_classes(table[:, np.bincount(classes) > 0])


def score(labels: npt.ArrayLike, y: npt.ArrayLike, n_clusters: int) -> dict[str, float]:
    """Return acc, nmi, ari and kl_star, as in `accuracy` and the functions after it; arguments as in `kl_star`."""
    return {
        "acc": accuracy(labels, y),
        "nmi": normalised_mutual_information(labels, y),
        "ari": adjusted_rand_index(labels, y),
        "kl_star": kl_star(labels, y, n_clusters),
    }


def correct(labels: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return which points' cluster is matched with their class, (N,); their mean over known classes is the accuracy.

    Args and Raises as in `accuracy`; a point without a label or a known class is not correct.
    """
    clusters, classes = _labels("labels", labels), _labels("y", y)
    _known(_same_length("labels", clusters, "y", classes))
    clusters, classes = _consecutive(clusters), _consecutive(classes)
    matching = np.full(clusters.max() + 2, -1)  # its last is for points without a label
    if clusters.max() >= 0:
        known = (clusters >= 0) & (classes >= 0)
        shape = (int(clusters.max()) + 1, int(classes.max()) + 1)
        rows, columns = one_to_one(tabled(clusters[known], classes[known], shape))
        matching[rows] = columns
    return (clusters >= 0) & (classes >= 0) & (matching[clusters] == classes)


@dataclass(frozen=True)
class ReliabilityBin:
    """The points whose confidence lies in (low, high]; 0 counts to the first bin.

    Args:
        low: least confidence, left out.
        high: greatest confidence.
        n_points: how many there are, > 0.
        confidence: their mean.
        accuracy: share of them whose cluster is matched with their class.
    """

    low: float
    high: float
    n_points: int
    confidence: float
    accuracy: float


def reliability(
    confidence: npt.ArrayLike, labels: npt.ArrayLike, y: npt.ArrayLike, n_bins: int = 10
) -> list[ReliabilityBin]:
    """Return how often points of like confidence are right: the reliability diagram, bins without points left out.

    Args:
        confidence: (N,) 0 .. 1, the probability or agreement of each point's label.
        labels: (N,) integers >= -1; points without a label are left out.
        y: (N,) true classes, integers >= -1, -1 = unknown; matched with the clusters as in `accuracy`.
        n_bins: equal intervals, >= 1.

    Raises:
        DataError: as in `accuracy`, or the confidence does not fit the labels.
        ParameterError: n_bins is below 1.

    Source:
        Niculescu-Mizil and Caruana 2005; Guo et al. 2017, figure 1.
    """
    if not isinstance(n_bins, int | np.integer) or n_bins < 1:
        raise ParameterError([f"n_bins is {n_bins!r}; it must be an integer, at least 1."])
    right = correct(labels, y)
    _mean_share("confidence", confidence, len(right))
    kept = (np.asarray(labels) >= 0) & (np.asarray(y) >= 0)
    right = right[kept]
    sure = np.asarray(confidence, dtype=np.float64)[kept]
    edges = np.linspace(0, 1, n_bins + 1)
    at = np.digitize(sure, edges[1:-1], right=True)
    bins = []
    for b in np.unique(at):
        inside = at == b
        means = float(sure[inside].mean()), float(right[inside].mean())
        bins.append(ReliabilityBin(float(edges[b]), float(edges[b + 1]), int(inside.sum()), *means))
    return bins


def expected_calibration_error(bins: list[ReliabilityBin]) -> float:
    """Return the mean over points of |confidence - accuracy| of their bin, 0 .. 1; nan without bins.

    Args:
        bins: as `reliability` returns them.

    Source:
        Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017, eq. (3).
    """
    n_points = sum(b.n_points for b in bins)
    return sum(b.n_points * abs(b.confidence - b.accuracy) for b in bins) / n_points if n_points else float("nan")


@dataclass(frozen=True, eq=False)
class CoverageCurve:
    """What holds of the points that are kept, for each confidence that occurs, from the surest on.

    Args:
        confidence: (n,) descending; kept are the points with at least this one.
        coverage: (n,) share of all points that are kept, ends at 1.
        mean: (n,) mean value of those that are kept.
    """

    confidence: Floats
    coverage: Floats
    mean: Floats


def coverage_curve(confidence: npt.ArrayLike, values: npt.ArrayLike) -> CoverageCurve:
    """Return what holds of the surest points, as more and more of them are kept; equally sure ones come together.

    With `correct` as values it is the accuracy at each coverage, with the agreement itself the mean agreement.

    Args:
        confidence: (N,) 0 .. 1, N >= 1.
        values: (N,) 0 .. 1 or bool, of the same points.

    Raises:
        DataError: there are no points, or their confidence or values do not fit.

    Source:
        Geifman and El-Yaniv 2017, as risk (1 - accuracy) by coverage.
    """
    sure, value = np.asarray(confidence), np.asarray(values)
    if not sure.size:
        raise DataError("confidence is empty; it must be one value in 0 .. 1 for each point, at least one.")
    _mean_share("confidence", sure, sure.size)
    _mean_share("values", value, sure.size)
    levels, at = np.unique(-sure.astype(np.float64), return_inverse=True)
    n_kept = np.bincount(at).cumsum()
    return CoverageCurve(-levels, n_kept / sure.size, np.bincount(at, value).cumsum() / n_kept)


# Without true classes


def effective_clusters(labels: npt.ArrayLike, n_clusters: int | None = None) -> float:
    """Return the number of equal clusters that would have the same entropy (the perplexity of the sizes).

    Args:
        labels: (N,) integers >= -1; points without a label are left out.
        n_clusters: number of clusters, >= 1, to check the labels by; None = any.

    Returns:
        1 .. K, 1 for a collapsed labelling; 0 where no point has a label.

    Raises:
        DataError: empty, not integers, below -1 or not below n_clusters.
        ParameterError: n_clusters is below 1.
    """
    sizes = _sizes(labels, n_clusters)
    return float(np.exp(_entropy(sizes))) if sizes.any() else 0.0


def label_free(
    labels: npt.ArrayLike,
    n_clusters: int,
    *,
    share: npt.ArrayLike | None = None,
    agreed: npt.ArrayLike | None = None,
    aligned: npt.ArrayLike | None = None,
) -> dict[str, float]:
    """Return the figures that need no true class.

    Args:
        labels: (N,) integers in -1 .. n_clusters - 1, of a member or of the consensus.
        n_clusters: number of clusters, >= 1.
        share: (N,) share of members that give each point's label, 0 .. 1; nan throughout where there is one member.
        agreed: (N,) bool.
        aligned: (M, N) the members' labels, as in `stability`.

    Returns:
        effective_clusters; largest_cluster, the share of the labelled points that lie in it (1 = collapsed, 0 = no
        labels); unlabelled, the share of points without a label; with `share` agreement, its mean; with `agreed`
        agreed, the share of agreed points; with `aligned` stability.

    Raises:
        DataError: bad labels as in `effective_clusters`, or one of the others does not fit them.
        ParameterError: n_clusters is below 1.
    """
    sizes = _sizes(labels, n_clusters)
    n_points = np.size(labels)
    figures = {
        "effective_clusters": effective_clusters(labels, n_clusters),
        "largest_cluster": float(sizes.max() / max(1, sizes.sum())),
        "unlabelled": float(1 - sizes.sum() / n_points),
    }
    if share is not None:
        figures["agreement"] = _mean_share("share", share, n_points)
    if agreed is not None:
        figures["agreed"] = _mean_share("agreed", agreed, n_points)
    if aligned is not None:
        figures["stability"] = stability(aligned)
    return figures


def stability(aligned: npt.ArrayLike) -> float:
    """Return the mean adjusted Rand index of all pairs of voting members.

    A pair of members that each put all points in one cluster counts 0 where the index is 1: else a sweep that looks
    for stability would find collapse. The names of the clusters make no difference.

    Args:
        aligned: (M, N) integers >= -1, one row a member; a row of -1 has no say, single points of -1 form one more
            cluster of their member.

    Returns:
        At most 1; nan with fewer than two voting members.

    Raises:
        DataError: not (M, N), empty, not integers or below -1.
    """
    voting = [row for row in _members(aligned) if row.max() >= 0]
    if len(voting) < 2:
        return float("nan")
    return float(np.mean(pairwise_stability(voting)[np.triu_indices(len(voting), 1)]))


def pairwise_stability(aligned: npt.ArrayLike) -> Floats:
    """Return the adjusted Rand index of every pair of members, as `stability` takes it.

    Args and Raises as in `stability`.

    Returns:
        (M, M), symmetric, 1 on the diagonal; nan in the rows and columns of members without a say.
    """
    members = _members(aligned)
    found = np.full((len(members), len(members)), np.nan)
    codes = {m: _own_cluster(row) for m, row in enumerate(members) if row.max() >= 0}
    for m in codes:
        found[m, m] = 1.0
    for a, b in combinations(codes, 2):
        found[a, b] = found[b, a] = _pair_stability(_table(codes[a], codes[b]))
    return found


# Of probabilities


def hard_entropy(probabilities: npt.ArrayLike) -> float:
    """Return the entropy of the sizes of the clusters that the rows' greatest probabilities make, in bits.

    Args:
        probabilities: (N, K), rows sum to 1; of equal probabilities the first is the greatest.

    Returns:
        0 .. log2 K.

    Raises:
        DataError: not (N, K), empty, not finite, negative or rows that do not sum to 1.

    Source:
        CA, section 4 and appendix D: 1.50 for D1, 0 for D2 (the appendix swaps the names); HEnt in CA-S, Table 3.
    """
    return _bits(_hard_sizes(probabilities))


def soft_entropy(probabilities: npt.ArrayLike) -> float:
    """Return the entropy of the mean probabilities, in bits.

    Args, Returns and Raises as in `hard_entropy`.

    Source:
        CA, section 4 and appendix D: 1.10 for D1, 1.58 for D2; SEnt in CA-S, Table 3.
    """
    return _bits(_soft_sizes(probabilities))


def hard_variance(probabilities: npt.ArrayLike) -> float:
    """Return the variance of the clusters' sizes over their mean.

    The paper gives no formula. Its figures are neither variances nor standard deviations of the sizes: a collapse of
    60,000 points to 1 of 100 clusters is printed as 59,400, and that is the population variance (K - 1) (N / K)^2
    over the mean N / K; nearly equal clusters fit the same formula through the printed entropy.

    Args:
        probabilities: (N, K), as in `hard_entropy`.

    Returns:
        In points, 0 (equal sizes) .. N (K - 1) / K (collapsed).

    Raises:
        DataError: as in `hard_entropy`.

    Source:
        HVar in CA-S, Table 3.
    """
    return _dispersion(_hard_sizes(probabilities))


def soft_variance(probabilities: npt.ArrayLike) -> float:
    """Return the variance of the sums of the probabilities of each cluster over their mean.

    Args, Returns and Raises as in `hard_variance`.

    Source:
        SVar in CA-S, Table 3.
    """
    return _dispersion(_soft_sizes(probabilities))


# Of latents


def linear_probe(latents: npt.ArrayLike, y: npt.ArrayLike, seed: int) -> float:
    """Return the accuracy of a logistic regression from latents to classes on the third of the points held out.

    Args:
        latents: (N, D) finite; standardised by the points fitted on.
        y: (N,) true classes, integers >= -1; points with -1 are left out.
        seed: of the split, >= 0.

    Returns:
        0 .. 1.

    Raises:
        DataError: shapes or values are wrong, or fewer than two classes are left to fit on.

    Source:
        CA, Table 3 (linear).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    parts = _held_out(latents, y, seed)
    if len(np.unique(parts.y_fit)) < 2:
        raise DataError("the points to fit on are of one class; a linear probe needs at least two: give more points.")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000))
    return float(model.fit(parts.x_fit, parts.y_fit).score(parts.x_test, parts.y_test))


def knn_probe(latents: npt.ArrayLike, y: npt.ArrayLike, seed: int, n_neighbours: int = 10) -> float:
    """Return the accuracy of the nearest neighbours' vote in latent space on the third of the points held out.

    Args:
        latents: (N, D) finite; taken as they are.
        y: (N,) true classes, integers >= -1; points with -1 are left out.
        seed: of the split, >= 0.
        n_neighbours: how many vote, >= 1 and at most the number of points fitted on.

    Returns:
        0 .. 1.

    Raises:
        DataError: shapes or values are wrong, or there are fewer points to fit on than neighbours.
        ParameterError: n_neighbours is below 1.

    Source:
        CA, Table 3 (KNN, k = 10).
    """
    from sklearn.neighbors import KNeighborsClassifier

    if n_neighbours < 1:
        raise ParameterError([f"n_neighbours is {n_neighbours}; it must be at least 1."])
    parts = _held_out(latents, y, seed)
    if len(parts.y_fit) < n_neighbours:
        raise DataError(
            f"{len(parts.y_fit)} points are left to fit on and n_neighbours is {n_neighbours}; give more points or "
            "ask fewer neighbours."
        )
    model = KNeighborsClassifier(n_neighbors=n_neighbours)
    return float(model.fit(parts.x_fit, parts.y_fit).score(parts.x_test, parts.y_test))


# What the functions above share


@dataclass(frozen=True)
class _Codes:
    """Labels (N,) in 0 .. count - 1."""

    values: Labels
    count: int


@dataclass(frozen=True)
class _Split:
    """The points a probe is fitted on and those it is scored on."""

    x_fit: Array
    x_test: Array
    y_fit: Labels
    y_test: Labels


def _against_classes(labels: npt.ArrayLike, y: npt.ArrayLike) -> Table:
    """Count (clusters + 1, classes) the points of known class; the last row holds those without a label."""
    clusters = _labels("labels", labels)
    classes = _known(_same_length("labels", clusters, "y", _labels("y", y)))
    known = classes >= 0
    codes = _own_cluster(clusters)
    classes = _consecutive(classes)[known]
    table = _table(_Codes(codes.values[known], codes.count), _Codes(classes, int(classes.max()) + 1))
    return table[:, table.sum(axis=0) > 0]


def _own_cluster(labels: Labels) -> _Codes:
    """Put the points without a label into a cluster after the last one, which may stay empty."""
    labels = _consecutive(labels)
    last = int(labels.max()) + 1
    return _Codes(np.where(labels < 0, last, labels), last + 1)


def _consecutive(labels: Labels) -> Labels:
    """Renumber labels that are too far apart for a table, -1 stays."""
    if labels.max() < max(labels.size, 1 << 10):
        return labels
    names, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.int64) - int(names[0] < 0)


def _table(rows: _Codes, columns: _Codes) -> Table:
    return tabled(rows.values, columns.values, (rows.count, columns.count))


def _entropy(sizes: Counts | Floats) -> float:
    """Return the entropy of a distribution given by its sizes, in nats."""
    p = sizes[sizes > 0] / sizes.sum()
    return float(abs((p * np.log(p)).sum()))


def _bits(sizes: Counts | Floats) -> float:
    return _entropy(sizes) / float(np.log(2))


def _dispersion(sizes: Counts | Floats) -> float:
    return float(sizes.var() / sizes.mean())


def _adjusted_rand(table: Table) -> float:
    # Ordered pairs of points that lie together; integers of any size, so nothing is rounded before the division.
    n_points, of_all = int(table.sum()), (cells(table), table.sum(axis=1), table.sum(axis=0))
    both, rows, columns = (int((sizes**2).sum()) - n_points for sizes in of_all)
    if both == rows == columns:
        return 1.0
    pairs = n_points * (n_points - 1)
    return 2 * (both * pairs - rows * columns) / ((rows + columns) * pairs - 2 * rows * columns)


def _pair_stability(table: Table) -> float:
    return 0.0 if np.count_nonzero(cells(table)) == 1 else _adjusted_rand(table)


def _kl_from_classes(table: Table) -> float:
    """Return KL(rows' masses, by class || columns' masses) of a (clusters, classes) table, in nats."""
    # In sorted order and without empty ones the matching, ties included, does not depend on the clusters' names.
    table = table[_sorted(table)]
    table = table[table.sum(axis=1) > 0]
    class_of = np.asarray(table.argmax(axis=1)).ravel()
    clusters, classes = one_to_one(table)
    class_of[clusters] = classes
    model = np.bincount(class_of, weights=table.sum(axis=1), minlength=table.shape[1])
    return max(0.0, float(rel_entr(model / table.sum(), table.sum(axis=0) / table.sum()).sum()))


def _sorted(table: Table) -> npt.NDArray[np.intp]:
    """Return the order of a table's rows by what they hold."""
    if not sparse.issparse(table):
        return np.lexsort(table.T[::-1])
    table.sort_indices()
    parts = [slice(*ends) for ends in pairwise(table.indptr.tolist())]
    held = [(table.indices[part].tolist(), table.data[part].tolist()) for part in parts]
    return np.array(sorted(range(len(held)), key=held.__getitem__), dtype=np.intp)


def _hard_sizes(probabilities: npt.ArrayLike) -> Counts:
    p = _probabilities(probabilities)
    return np.bincount(p.argmax(axis=1), minlength=p.shape[1])


def _soft_sizes(probabilities: npt.ArrayLike) -> Floats:
    sizes: Floats = _probabilities(probabilities).sum(axis=0, dtype=np.float64)
    return sizes


def _sizes(labels: npt.ArrayLike, n_clusters: int | None) -> Counts:
    checked = _labels("labels", labels)
    if n_clusters is not None:
        _check_range(checked, n_clusters)
    checked = _consecutive(checked)
    return np.bincount(checked[checked >= 0], minlength=1)


def _held_out(latents: npt.ArrayLike, y: npt.ArrayLike, seed: int) -> _Split:
    from sklearn.model_selection import train_test_split

    x = np.asarray(latents)
    if x.ndim != 2 or x.dtype.kind not in "fiu" or not np.isfinite(x).all():
        raise DataError(f"latents are {_described(x)}; they must be (points, dimensions) of finite numbers.")
    classes = _same_length("latents", x, "y", _labels("y", y))
    known = classes >= 0
    if known.sum() < 2:
        raise DataError(
            f"{known.sum()} points have a known class; a probe needs at least two: one to fit, one to test."
        )
    split = seeding.integer(seed, "probe split")
    return _Split(*train_test_split(x[known], classes[known], test_size=_TEST_SHARE, random_state=split))


# Checks at the door


def _labels(name: str, values: npt.ArrayLike) -> Labels:
    labels = np.asarray(values)
    if labels.ndim != 1 or labels.size == 0 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{name} is {_described(labels)}; it must be (points,) of integers, one a point: convert it with "
            "astype(int) or give the points it belongs to."
        )
    if labels.min() < -1:
        raise DataError(f"{name} goes down to {labels.min()}; it must be at least -1, which means none: renumber it.")
    return labels.astype(np.int64, copy=False)


def _check_range(labels: Labels, n_clusters: int) -> None:
    if not isinstance(n_clusters, int | np.integer) or n_clusters < 1:
        raise ParameterError([f"n_clusters is {n_clusters!r}; it must be an integer, at least 1."])
    if labels.max() >= n_clusters:
        raise DataError(
            f"labels go up to {labels.max()}; they must lie in -1 .. {n_clusters - 1} for n_clusters = {n_clusters}: "
            "renumber them or raise n_clusters."
        )


def _same_length(a_name: str, a: Array, b_name: str, b: Labels) -> Labels:
    if len(a) != len(b):
        raise DataError(
            f"{a_name} has {len(a)} points and {b_name} has {len(b)}; both must be of the same points, in order."
        )
    return b


def _known(classes: Labels) -> Labels:
    if classes.max() < 0:
        raise DataError("y is -1 throughout; at least one point must have a known class to compare with.")
    return classes


def _members(aligned: npt.ArrayLike) -> list[Labels]:
    try:
        rows = np.asarray(aligned)
    except ValueError as error:
        raise DataError(f"aligned is no (members, points) array: {error} Give one row a member.") from error
    if rows.ndim != 2 or rows.size == 0:
        raise DataError(f"aligned is {_described(rows)}; it must be (members, points) of integers >= -1.")
    return [_labels(f"aligned[{index}]", row) for index, row in enumerate(rows)]


def _probabilities(values: npt.ArrayLike) -> Floats:
    p = np.asarray(values)
    if p.ndim != 2 or p.size == 0 or p.dtype.kind not in "fiu":
        raise DataError(
            f"probabilities are {_described(p)}; they must be (points, clusters), with at least one of each."
        )
    if not np.isfinite(p).all() or p.min() < 0:
        raise DataError("probabilities hold values that are negative or not finite; all must lie in 0 .. 1.")
    off = np.abs(p.sum(axis=1, dtype=np.float64) - 1)
    if off.max() > _ROW_SUM_TOLERANCE:
        raise DataError(
            f"the probabilities of row {off.argmax()} sum to {p[off.argmax()].sum():.6g}; every row must sum to 1: "
            "divide each by its sum, or apply a softmax to logits."
        )
    return p.astype(np.float64, copy=False)


def _mean_share(name: str, values: npt.ArrayLike, n_points: int) -> float:
    shares = np.asarray(values)
    if shares.shape != (n_points,) or shares.dtype.kind not in "biuf" or not ((shares >= 0) & (shares <= 1)).all():
        if shares.shape == (n_points,) and shares.dtype.kind == "f" and np.isnan(shares).all():
            return float("nan")
        raise DataError(
            f"{name} is {_described(shares)}; it must be one value in 0 .. 1 for each of {n_points} points."
        )
    return float(shares.mean())


def _described(array: Array) -> str:
    return f"of shape {array.shape} and type {array.dtype}"
