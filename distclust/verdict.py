"""How far a clustering can be used, decided by stated rules, without labels.

`judge` gathers evidence from a fitted ensemble and its data, and takes the first rule of `RULES` that applies. The
evidence does not come from the members' own training: it is measured in the space of the input, next to cheap
clusterers and to reference data without groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.baselines import Baseline, baselines
from distclust.consensus import agrees
from distclust.contracts import Labels
from distclust.data.arrays import check_x
from distclust.distributed.pool import threads
from distclust.errors import DataError
from distclust.methods.base import EnsembleClusterer
from distclust.metrics import adjusted_rand_index, contingency, effective_clusters
from distclust.seeding import generator
from distclust.separation import separation
from distclust.units import mixed_units

Floats = npt.NDArray[np.float64]

_MOST_POINTS = 2_000  # that are looked at
_MOST_VALUES = 8_000_000  # of all of them: fewer points where each has many
_FEWEST_POINTS = 300
_SEPARATED = 0.3  # separation from which on a cluster counts as separated
_LESSER = 0.3  # by which the gap around a cluster must be less than that around any of a baseline's
_CLEAR = 0.5  # from which on there is no doubt
_CHANCE = 0.5  # members must have less than this share of the disagreement that is there by chance
_TELLING = 0.8  # stability by chance from which on stability says nothing
_UNSTABLE = 0.5  # stability below which the answer depends on the seed
_AHEAD = 0.1  # by which a baseline must lead
_FOLLOWED = 0.95  # share of the points whose cluster keeps to one range of a feature
_FEWER = 0.9  # effective clusters of uneven groups, over those of the consensus

Level = Literal["good", "with care", "do not use"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a verdict is decided by. Nothing of it comes from true classes.

    Args:
        n_clusters: number of clusters K.
        members: number of members M.
        voters: number of voting members, the concatenation of SPC's latents included.
        collapsed: number of members that collapsed.
        seats: number of members and of other voters.
        rows: (n,) points that were looked at; at most 2,000, drawn by the seed, each distinct point once.
        labels: (n,) their consensus labels, -1 = none.
        stability: mean adjusted Rand index of the members; nan with fewer than two voters.
        independent: the same before any member has seen what the others say.
        separation: (K,) of the consensus clusters in the input, see `separation`.
        baselines: what cheap clusterers find in the same points.
        vectors: whether points are vectors, and no images or windows, in which a network may see more than a baseline.
        mixed_units: feature and factor where some values of a feature that the clusters follow look as if they were in
            another unit; None = there is none.
        equal_shares: parameter that says the clusters' expected shares, "" where the method expects none.
    """

    n_clusters: int
    members: int
    voters: int
    collapsed: int
    seats: int
    rows: Labels
    labels: Labels
    stability: float
    independent: float
    separation: Floats
    baselines: Sequence[Baseline]
    vectors: bool = True
    mixed_units: tuple[int, int] | None = None
    equal_shares: str = ""

    @property
    def chance(self) -> float:
        """Stability to expect of data without groups; nan where it cannot be said."""
        return max((baseline.chance for baseline in self.baselines), default=math.nan)

    @property
    def separated(self) -> float:
        """Share of the points that lie in clusters with a gap around them."""
        return _separated(self.labels, self.separation)

    @property
    def n_separated(self) -> int:
        """Number of clusters with a gap around them."""
        return int((np.nan_to_num(self.separation) >= _SEPARATED).sum())

    @property
    def n_used(self) -> int:
        """Number of clusters that have points."""
        return len(np.unique(self.labels[self.labels >= 0]))

    def agreement_with(self, baseline: Baseline) -> float:
        """Return the mean adjusted Rand index of a baseline's labelings with the consensus; nan without any label."""
        if not self.n_used:
            return math.nan
        return float(np.mean([adjusted_rand_index(row, self.labels) for row in baseline.labels]))


class Verdict(NamedTuple):
    """How far a clustering can be used.

    Args:
        name: of the rule that decided: a key of `RULES`.
        level: "good", "with care" or "do not use".
        sentence: the verdict, with the figures that decided it.
        advice: what to try, "" if nothing.
        evidence: what it was decided by.
    """

    name: str
    level: Level
    sentence: str
    advice: str
    evidence: Evidence

    @property
    def line(self) -> str:
        """The verdict in one line."""
        return f"{_BEGINNINGS[self.level]}: {self.sentence}{f' {self.advice}' if self.advice else ''}"


_BEGINNINGS: dict[Level, str] = {
    "good": "Good",
    "with care": "Use these labels with care",
    "do not use": "Do not use these labels",
}


def judge(model: EnsembleClusterer, X: Any) -> Verdict:
    """Return how far a fitted ensemble's labels can be used, and why.

    Args:
        model: fitted.
        X: the data it was fitted on. At most 2,000 points are looked at, fewer if each has more than 4,000 values.

    Raises:
        DataError: X is not what the model was fitted on.
    """
    x = check_x(X)
    if len(x) != len(model.labels_) or tuple(x.shape[1:]) != model.shape_:
        raise DataError(
            f"X has {len(x):,} points of shape {tuple(x.shape[1:])}, and the model was fitted on "
            f"{len(model.labels_):,} of {model.shape_}. Give the data it was fitted on."
        )
    return decide(gathered(model, x))


def decide(evidence: Evidence) -> Verdict:
    """Return the verdict of the first rule that applies."""
    for name, rule in RULES.items():
        if (sentence := rule.applies(evidence)) is not None:
            return Verdict(name, rule.level, sentence, rule.advice(evidence), evidence)
    raise AssertionError("the last rule always applies")


def gathered(model: EnsembleClusterer, x: npt.NDArray[Any]) -> Evidence:
    """Return the evidence on a fitted ensemble.

    Args:
        model: fitted.
        x: what it was fitted on, checked.
    """
    last, seed, n_clusters = model.last_round_, model.random_state, int(model.names_.shape[1])
    with threads(1):  # the figures are then the same on any number of CPUs
        rows = _sample(len(x), int(np.prod(x.shape[1:])), seed)
        points, first = np.unique(model.scaled(x[rows]), axis=0, return_index=True)
        rows = rows[first]
        enough = len(points) > 2 * n_clusters
        return Evidence(
            n_clusters=n_clusters,
            members=len(last.outputs),
            voters=last.agreement.voters,
            collapsed=sum(output.status == "collapsed" for output in last.outputs),
            seats=max(len(last.outputs), last.agreement.voters),
            rows=rows,
            labels=model.labels_[rows],
            stability=last.stability,
            independent=last.independent,
            separation=_padded(separation(points, model.labels_[rows], seed), n_clusters),
            baselines=baselines(points, n_clusters, seed) if enough else [],
            vectors=x.ndim == 2,
            mixed_units=_mixed_units(x[rows], model.labels_[rows]),
            equal_shares=model.shares_parameter,
        )


def _mixed_units(x: npt.NDArray[Any], labels: Labels) -> tuple[int, int] | None:
    """Return feature and factor of the first feature in mixed units whose two ranges the clusters keep apart."""
    known = labels >= 0
    if x.ndim != 2 or not known.any():
        return None
    for found in mixed_units(x[known]):
        table = contingency(labels[known], found.larger.astype(np.int64))
        if (
            table.max(axis=1).sum() >= _FOLLOWED * table.sum()
            and len(np.unique(table.argmax(axis=1)[table.any(axis=1)])) > 1
        ):
            return found.feature, found.factor
    return None


def _sample(n_points: int, n_values: int, seed: int) -> Labels:
    most = min(_MOST_POINTS, max(_FEWEST_POINTS, _MOST_VALUES // n_values))
    order = generator(seed, "points of the verdict").permutation(n_points)
    return np.sort(order[:most]).astype(np.int64)


def _padded(found: Floats, n_clusters: int) -> Floats:
    return np.concatenate([found, np.full(n_clusters - len(found), np.nan)])


def _separated(labels: Labels, gaps: Floats) -> float:
    known = labels[labels >= 0]
    return float((np.nan_to_num(gaps)[known] >= _SEPARATED).mean()) if len(known) else 0.0


# The rules, in the order in which they are asked


class Rule(NamedTuple):
    """A rule: how bad it is, when it applies (the sentence that says so, else None), and what to try."""

    level: Level
    applies: Callable[[Evidence], str | None]
    advice: Callable[[Evidence], str]


def _no_labels(e: Evidence) -> str | None:
    if e.voters and e.n_used:
        return None
    return "no member has a vote, so no point has a label."


def _collapsed(e: Evidence) -> str | None:
    if e.members > 1 and not agrees(e.voters, e.seats):
        why = f", {e.collapsed} collapsed" if e.collapsed else ""
        return f"only {e.voters} of {e.seats} members vote{why}; the agreement of so few says nothing."
    if e.n_used == 1:
        return f"all points are in one cluster of {e.n_clusters}."
    return None


def _chance(e: Evidence) -> str | None:
    if e.n_separated or not e.baselines or math.isnan(e.independent):
        return None
    seen = not e.vectors or any(_beyond_chance(one.stability, one.chance) for one in e.baselines)
    if seen and _beyond_chance(e.independent, e.chance):
        return None
    return (
        f"no better than chance. No gap separates any cluster from the others, and "
        f"{'the baselines' if _beyond_chance(e.independent, e.chance) else 'the members'} agree as they would on data "
        f"without groups (stability {e.independent:.2f}; {e.chance:.2f} by chance)."
    )


def _beyond_chance(stability: float, chance: float) -> bool:
    """Return whether less than half of the disagreement by chance is left, where chance leaves enough to tell."""
    return chance < _TELLING and 1 - stability < _CHANCE * (1 - chance)


def _uneven(e: Evidence) -> str | None:
    found = _clearer(e)
    if found is None:
        return None
    if effective_clusters(found.labels[0]) > _FEWER * effective_clusters(e.labels):
        return None
    shares = ", ".join(f"{share:.1%}" for share in _shares(found.labels[0]))
    return (
        f"the groups in the data are uneven, and these clusters are not. {found.name} finds groups of {shares} of the "
        f"points with gaps around each; here a cluster is a slice of a group, which agreement says nothing about."
    )


def _units(e: Evidence) -> str | None:
    if e.mixed_units is None:
        return None
    feature, factor = e.mixed_units
    return (
        f"the clusters follow feature {feature}, whose values fall into two ranges a factor of {factor:,} apart: some "
        f"may be in another unit."
    )


def _unstable(e: Evidence) -> str | None:
    if math.isnan(e.stability) or e.stability >= _UNSTABLE:
        return None
    return f"unstable. Another seed gives other groups (stability {e.stability:.2f}; 1 is the same answer)."


def _beaten(e: Evidence) -> str | None:
    found = _clearer(e)
    if found is not None:
        return f"{found.name} finds groups with gaps around each, and these clusters cut through groups."
    for baseline in e.baselines:
        ahead = baseline.stability - e.independent
        clearer = _separated(baseline.labels[0], baseline.separation) - e.separated
        if ahead >= _AHEAD and clearer >= _AHEAD:
            return (
                f"beaten by the baseline. {baseline.name} is more stable ({baseline.stability:.2f} over three seeds, "
                f"here {e.independent:.2f}), and more of its points lie in clusters with a gap around them."
            )
    return None


def _single(e: Evidence) -> str | None:
    if e.members > 1:
        return None
    gap = f"{e.n_separated} of {e.n_used} clusters have a gap around them in the input"
    return f"one member has no agreement to judge by. {gap}."


def _overlapping(e: Evidence) -> str | None:
    if e.separated >= _CLEAR:
        return None
    which = f"{e.n_separated} of {e.n_used} clusters have" if e.n_separated else "no cluster has"
    return (
        f"the clusters border on one another. Members agree (stability {e.stability:.2f}), but {which} a gap around "
        f"it in the input: where one ends and the next begins is a convention."
    )


def _good(e: Evidence) -> str | None:
    chance = "" if math.isnan(e.chance) else f"; {e.chance:.2f} by chance"
    return (
        f"members agree (stability {e.stability:.2f}{chance}), and {e.n_separated} of {e.n_used} clusters have a gap "
        f"around them in the input."
    )


def _clearer(e: Evidence) -> Baseline | None:
    """Return a baseline with clear groups that the consensus misses: one of its clusters has a much lesser gap."""
    found = _clear(e)
    if found is None or e.agreement_with(found) >= 1 - _AHEAD:
        return None
    least = np.nan_to_num(e.separation, nan=1.0).min() if e.n_used else 0.0
    return found if least <= found.separation.min() - _LESSER else None


def _clear(e: Evidence) -> Baseline | None:
    """Return a stable baseline all of whose clusters have a gap around them."""
    for baseline in e.baselines:
        if baseline.stability >= 1 - _AHEAD and (np.nan_to_num(baseline.separation) >= _CLEAR).all():
            return baseline
    return None


def _shares(labels: Labels) -> list[float]:
    sizes = np.sort(np.bincount(labels))[::-1]
    return [round(float(share), 3) for share in sizes / sizes.sum()]


def _try_groups_of_baseline(e: Evidence) -> str:
    """Return what to try: what a baseline found, if its groups are clear."""
    found = _clearer(e)
    if found is None:
        return "There may be no groups: try other features, or look for a number of clusters with choose_k."
    if e.equal_shares and effective_clusters(found.labels[0]) <= _FEWER * e.n_clusters:
        given = ",".join(f"{share:g}" for share in _shares(found.labels[0]))
        return (
            f"The method expects groups of equal size, and {found.name} finds uneven ones with gaps around each: give "
            f"{e.equal_shares}=[{given}], or take method selective."
        )
    return f"{found.name} finds groups with gaps around each: take its labels, or another method."


def _try_causes(e: Evidence) -> str:
    groups = _try_groups_of_baseline(e) if _clearer(e) else ""
    return f"The causes of the members say what to try. {groups}".strip()


RULES: dict[str, Rule] = {
    "no labels": Rule("do not use", _no_labels, _try_causes),
    "collapsed": Rule("do not use", _collapsed, _try_causes),
    "uneven": Rule("do not use", _uneven, _try_groups_of_baseline),
    "chance": Rule("do not use", _chance, _try_groups_of_baseline),
    "units": Rule("with care", _units, lambda e: "Check that column, and give all its values in one unit."),
    "beaten": Rule("with care", _beaten, lambda e: "Compare its labels, or let such clusterers be members."),
    "unstable": Rule("with care", _unstable, lambda e: "Train longer, or take the points of high agreement alone."),
    "single": Rule("with care", _single, lambda e: "Give n_members=5."),
    "overlapping": Rule("with care", _overlapping, lambda e: "Look at the points of low agreement."),
    "good": Rule("good", _good, lambda e: ""),
}
