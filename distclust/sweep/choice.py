"""Choosing a value without labels: which number of clusters gives groups that come again when the data is drawn again.

**What is compared.** Every seed of the study clusters a draw of the points of its own (`StudyOptions.resample`). The
stability of a value is the mean adjusted Rand index of all pairs of its labellings, on the points that both hold. With
all points at every seed only the luck of the start would vary, and a clusterer that always finds the same answer would
be stable at every value (von Luxburg 2010, section 3).

**Beside what.** Stability goes with the number of clusters and with the clusterer whatever the data, so the greatest is
not the best. Each value is held against the same on structureless data of the same size and covariance
(`data.reference`): long data without groups, which is cut into the same parts again and again, is then not called
clustered.

**In what unit.** Disagreement, 1 - stability, spans powers of ten, so logarithms of it are compared; below `AGREED` it
counts as that. The strength of a value is the mean logarithm of the reference's disagreement less that of the data's,
over all pairs. Its standard error says how it would vary with other draws: by the jackknife over draws, and between
references if that is more.

**Rules**, set by reasoning and tried on made data whose groups are known, never on true classes of real data:

- A value is out if it has fewer than `LABELLINGS` labellings, uses fewer than `FEWEST` K clusters in effect, or is not
  beyond the reference: its strength must be at least log 2, half the disagreement of structureless data, and more than
  `BEYOND` standard errors.
- Of the rest the strongest is looked at, or, where some are settled, the finest of those: a clusterer that merges the
  nearest groups is as stable with fewer clusters, and the finest divides what the others keep together (Ben-Hur et al.
  take the largest stable number, too). A value is settled if its disagreement is at most `AGREED` and 1 / 4K, half of
  what one cluster too many makes. Settled values of fewer clusters are no rivals.
- It is recommended if it leads every rival by `AHEAD` standard errors of the difference and by half as much
  disagreement again; the margin is counted in such errors, of at least log 3/2 / `AHEAD`. Else those that it does not
  lead are level with it, and nothing is recommended.
- With more than some 50 clusters one too many is within `AGREED`, and neighbouring numbers are level.
- Without a reference all values are compared by the data's disagreement alone, and nothing can be said of whether
  there are groups at all.

Sources: Ben-Hur, Elisseeff and Guyon, PSB 2002 (pairs of overlapping draws); Lange, Roth, Braun and Buhmann, Neural
Computation 16 (2004) (stability relative to what chance gives); Tibshirani, Walther and Hastie, JRSS B 63 (2001)
(reference data); Senbabaoglu, Michailidis and Li, Scientific Reports 4 (2014) (consensus clustering finds groups where
there are none; a reference of the same covariance); John et al., Scientific Reports 10 (2020) (the logarithm of the
ratio to such a reference); von Luxburg, Foundations and Trends in Machine Learning 2 (2010) (what stability can say).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.consensus import align, vote
from distclust.contracts import Array, Dataset, Labels
from distclust.metrics import effective_clusters, stability
from distclust.published import in_columns
from distclust.seeding import generator
from distclust.spec import Spec
from distclust.sweep.study import Study, Trial, value_text
from distclust.sweep.table import Ended, seed
from distclust.sweep.trial import Outcome

AGREED = 0.01  # two labellings of an adjusted Rand index of 0.99 are as good as equal
BEYOND = 2.0  # standard errors
AHEAD = 2.0  # standard errors
FEWEST = 0.8  # of K
LABELLINGS = 3  # with two there is one pair, and no saying how far others would be from it

_HALF, _HALF_AGAIN = math.log(2), math.log(1.5)
_SPACE_POINTS, _SPACE_DIMENSIONS = 2_000, 50

Floats = npt.NDArray[np.float64]


class Labelling(NamedTuple):
    """Labels of a draw of the points."""

    labels: Labels  # (n,) -1 = no label
    rows: Labels  # (n,) which points of the whole they are of, ascending


class Space(NamedTuple):
    """Some points of the whole data in a space that is the same for all values."""

    points: Array  # (m, d)
    rows: Labels  # (m,) which points of the whole they are, ascending


class Evidence(NamedTuple):
    """What was found at one value: labellings of draws of the data, and of each reference."""

    value: Any
    n_clusters: int
    data: Sequence[Labelling]
    references: Sequence[Sequence[Labelling]] = ()
    causes: tuple[str, ...] = ()  # why others are missing


@dataclass(frozen=True)
class Candidate:
    """A value and what speaks for it.

    Args:
        value: of the axis.
        n_clusters: K.
        n_labellings: of the data.
        stability: mean adjusted Rand index of their pairs; nan with fewer than two.
        spread: its standard deviation over the pairs.
        reference: the same of the reference data, pairs within each; nan where there is none.
        reference_spread: its standard deviation over the pairs.
        gap: share of the reference's disagreement that the data has not, at most 1; nan where there is no reference.
        strength: see the module.
        error: its standard error.
        agreed: share of the points to which all labellings that hold them give the same label.
        effective_clusters: mean over the labellings, one without labels counts as a single cluster.
        silhouette: of the consensus labels in the shared space; nan where there is none.
        faults: why it cannot be recommended, a phrase each.
        remarks: what else is to be said of it.
    """

    value: Any
    n_clusters: int
    n_labellings: int
    stability: float
    spread: float
    reference: float
    reference_spread: float
    gap: float
    strength: float
    error: float
    agreed: float
    effective_clusters: float
    silhouette: float
    faults: tuple[str, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """What a study says of the value of an axis.

    Args:
        axis: its name.
        setting: the values of the other axes, where there are any.
        recommended: the value; None = it cannot be told.
        margin: by which the first value leads its nearest rival, in standard errors; nan where it has none.
        level: the values between which it cannot be told, in the axis' order; the recommended one alone; none.
        sentence: all this in words.
        candidates: all values, in the axis' order.
    """

    axis: str
    setting: Mapping[str, Any]
    recommended: Any
    margin: float
    level: tuple[Any, ...]
    sentence: str
    candidates: tuple[Candidate, ...]


# What speaks for a value


def pair_stabilities(labellings: Sequence[Labelling]) -> Floats:
    """Return the adjusted Rand index of all pairs on the points that both hold, (M, M), nan on the diagonal.

    Points without a label form one more cluster. A pair of which one has no label at all, or that each put all points
    in one cluster, counts 0, else collapse would be stable; one that has no point in common is nan.
    """
    found = np.full((len(labellings), len(labellings)), np.nan)
    for (i, a), (j, b) in combinations(enumerate(labellings), 2):
        found[i, j] = found[j, i] = _pair_stability(a, b)
    return found


def _pair_stability(a: Labelling, b: Labelling) -> float:
    _, in_a, in_b = np.intersect1d(a.rows, b.rows, assume_unique=True, return_indices=True)
    if not len(in_a):
        return math.nan
    found = stability(np.stack([a.labels[in_a], b.labels[in_b]]))
    return 0.0 if math.isnan(found) else found


def log_disagreement(stabilities: Floats) -> Floats:
    """Return log(1 - stability) of each pair, of the same shape, not below log `AGREED`."""
    return np.log(np.maximum(1 - stabilities, AGREED))


class Estimate(NamedTuple):
    """A mean and its standard error; nan = not known."""

    mean: float
    error: float


def over_draws(pairs: Floats) -> Estimate:
    """Return the mean over all pairs of draws, and its standard error by leaving out one draw after the other.

    Args:
        pairs: (M, M) symmetric, nan = no such pair. With fewer than three draws there is no error.

    Source:
        Efron and Stein, Annals of Statistics 9 (1981).
    """
    n_draws = len(pairs)
    if n_draws < 3:
        return Estimate(_mean(pairs), math.nan)
    without = [_mean(np.delete(np.delete(pairs, draw, 0), draw, 1)) for draw in range(n_draws)]
    return Estimate(_mean(pairs), math.sqrt((n_draws - 1) * float(np.var(without))))


def over_references(found: Sequence[Estimate]) -> Estimate:
    """Return the mean of the references' means, and its error: theirs together, or that between them if it is more.

    One without an error has no say.
    """
    known = [one for one in found if not math.isnan(one.error)]
    if not known:
        return Estimate(math.nan, math.nan)
    means = np.array([one.mean for one in known])
    within = math.hypot(*(one.error for one in known)) / len(known)
    between = float(means.std(ddof=1)) / math.sqrt(len(known)) if len(known) > 1 else 0.0
    return Estimate(float(means.mean()), max(within, between))


class Consensus(NamedTuple):
    """What labellings of draws say together."""

    labels: Labels  # (N,) -1 where none holds the point or labels it
    agreed: float  # share of the points held by two or more to which all give the same label


def consensus_of_draws(labellings: Sequence[Labelling], n_clusters: int) -> Consensus:
    """Return the vote of labellings, each on the points it holds.

    Args:
        labellings: at least one.
        n_clusters: K, above all labels.
    """
    n_points = 1 + max(int(labelling.rows.max()) for labelling in labellings)
    whole = np.full((len(labellings), n_points), -1, dtype=np.int64)
    holders = np.zeros(n_points, dtype=np.int64)
    for row, labelling in zip(whole, labellings, strict=True):
        row[labelling.rows] = labelling.labels
        holders[labelling.rows] += 1
    aligned = align(list(whole), n_clusters)
    labels = vote(aligned, n_clusters=n_clusters).labels
    votes = ((aligned == labels) & (labels >= 0)).sum(axis=0)
    shared = holders >= 2
    return Consensus(labels, float((votes == holders)[shared].mean()) if shared.any() else math.nan)


def shared_space(x: Array, random_state: int = 0) -> Space:
    """Return some points in a space of few dimensions, in which labellings by different values can be compared.

    Args:
        x: (N, ...) the whole data. 2,000 points are drawn, all if there are fewer.
        random_state: of that, >= 0.

    Returns:
        The points' standardised features, by principal components where there are more than 50.
    """
    drawn = generator(random_state, "points of the shared space").permutation(len(x))[:_SPACE_POINTS]
    rows = np.sort(drawn).astype(np.int64)
    flat = x[rows].reshape(len(rows), -1).astype(np.float64)  # (m, D)
    scale = flat.std(axis=0)
    standard = (flat - flat.mean(axis=0)) / np.where(scale > 0, scale, 1)
    if standard.shape[1] > _SPACE_DIMENSIONS:
        from sklearn.decomposition import PCA

        n_components = min(_SPACE_DIMENSIONS, len(rows))
        standard = PCA(n_components, svd_solver="full").fit_transform(standard)
    return Space(standard, rows)


def silhouette_in(space: Space, labels: Labels) -> float:
    """Return the silhouette of labels (N,) in a shared space, -1 .. 1; nan where there are fewer than two clusters."""
    from sklearn.metrics import silhouette_score

    known = space.rows[space.rows < len(labels)]
    kept = labels[known] >= 0
    at = labels[known][kept]
    if not 1 < len(np.unique(at)) < len(at):
        return math.nan
    return float(silhouette_score(space.points[: len(known)][kept], at))


def candidate(found: Evidence, space: Space | None = None) -> Candidate:
    """Return a value with what speaks for it, from its labellings.

    Args:
        found: the labellings.
        space: for the silhouette; None = not wanted.
    """
    pairs, references = pair_stabilities(found.data), [pair_stabilities(draws) for draws in found.references]
    reference = np.concatenate([np.empty(0), *(of_one[np.triu_indices(len(of_one), 1)] for of_one in references)])
    strength = _strength(pairs, references)
    effective = _mean(np.array([max(1.0, effective_clusters(one.labels)) for one in found.data]))
    together = consensus_of_draws(found.data, found.n_clusters) if found.data else None
    return Candidate(
        value=found.value,
        n_clusters=found.n_clusters,
        n_labellings=len(found.data),
        stability=_mean(pairs),
        spread=_std(pairs[np.triu_indices(len(pairs), 1)]),
        reference=_mean(reference),
        reference_spread=_std(reference),
        gap=1 - (1 - _mean(pairs)) / max(AGREED, 1 - _mean(reference)) if found.references else math.nan,
        strength=strength.mean,
        error=strength.error,
        agreed=math.nan if together is None else together.agreed,
        effective_clusters=effective,
        silhouette=math.nan if together is None or space is None else silhouette_in(space, together.labels),
        faults=tuple(_faults(found, effective, strength)),
        remarks=found.causes,
    )


def _strength(pairs: Floats, references: Sequence[Floats]) -> Estimate:
    """Return by how much the logarithm of the disagreement is below that of the references, or below 0."""
    data = over_draws(log_disagreement(pairs))
    if not references:
        return Estimate(-data.mean, data.error)
    reference = over_references([over_draws(log_disagreement(of_one)) for of_one in references])
    return Estimate(reference.mean - data.mean, math.hypot(data.error, reference.error))


def _faults(found: Evidence, effective: float, strength: Estimate) -> list[str]:
    """Return why a value cannot be recommended."""
    if len(found.data) < LABELLINGS:
        return [f"{len(found.data)} labellings, {LABELLINGS} are needed"]
    if effective < FEWEST * found.n_clusters:
        return [f"uses {effective:.1f} of {found.n_clusters} clusters in effect"]
    if math.isnan(strength.mean) or math.isnan(strength.error):
        return ["too few labellings of structureless data to compare with"]
    if found.references and not (strength.mean >= _HALF and strength.mean > BEYOND * strength.error):
        return ["not beyond structureless data"]
    return []


# Which value, of candidates


def choose(axis: str, candidates: Sequence[Candidate], setting: Mapping[str, Any] | None = None) -> Choice:
    """Return which of the values is recommended, and by what margin, see the module.

    Args:
        axis: its name.
        candidates: the values, in the axis' order.
        setting: the values of the other axes.
    """
    fit = [c for c in candidates if not c.faults]
    first = _first(fit)
    leads = {id(c): lead(first, c) for c in fit if c is not first and not _coarser(first, c)} if first else {}
    level = [c for c in fit if c is first or leads.get(id(c), math.inf) < AHEAD]
    return Choice(
        axis=axis,
        setting=dict(setting or {}),
        recommended=level[0].value if len(level) == 1 else None,
        margin=min(leads.values(), default=math.nan),
        level=tuple(c.value for c in level),
        sentence=_nothing(axis, candidates) if first is None else _sentence(axis, candidates, first, level),
        candidates=tuple(candidates),
    )


def _first(fit: Sequence[Candidate]) -> Candidate | None:
    """Return the finest settled value, else the strongest; None where there is none."""
    settled = [c for c in fit if is_settled(c)]
    if settled:
        return max(settled, key=lambda c: (c.n_clusters, c.strength))
    return max(fit, key=lambda c: c.strength, default=None)


def is_settled(c: Candidate) -> bool:
    """Return whether all labellings are as good as equal, more so than with one cluster too many."""
    return 1 - c.stability <= min(AGREED, 1 / (4 * c.n_clusters))


def _coarser(first: Candidate, c: Candidate) -> bool:
    return is_settled(first) and is_settled(c) and c.n_clusters < first.n_clusters


def lead(first: Candidate, other: Candidate) -> float:
    """Return by how many standard errors one value is stronger than another."""
    error = math.hypot(first.error, other.error)
    return (first.strength - other.strength) / max(error, _HALF_AGAIN / AHEAD)


# Of a study


def choices(
    study: Study,
    ended: Sequence[Ended],
    labellings: Callable[[Trial], Sequence[Labelling]],
    data: Callable[[Trial], Dataset | None],
) -> list[Choice]:
    """Return what a study says of its axis `choose`: one choice for each combination of the other axes.

    Args:
        study: one that chooses.
        ended: its trials that ended.
        labellings: a trial's: that of the consensus, or those of the members where the trial has no other seeds; none
            where there are none.
        data: that of a trial, neither resampled nor replaced by a reference; None where it cannot be had.
    """
    axis = next(axis for axis in study.axes if axis.name == study.options.choose)
    others = [name for name in study.shown if name != axis.name and name not in study.references]
    found = []
    for values, of_setting in _grouped(ended, others).items():
        whole = data(of_setting[0][0])
        space = None if whole is None else shared_space(whole.x, study.options.seed)
        n_clusters = None if whole is None else whole.n_clusters
        candidates = [
            candidate(evidence(value, n_clusters, at_value, labellings), space)
            for (value,), at_value in _grouped(of_setting, [axis.name]).items()
        ]
        found.append(choose(axis.name, candidates, dict(zip(others, values, strict=True))))
    return found


def evidence(
    value: Any, n_clusters: int | None, ended: Sequence[Ended], labellings: Callable[[Trial], Sequence[Labelling]]
) -> Evidence:
    """Return what trials found at one value.

    Args:
        value: of the axis.
        n_clusters: K where the trials' specifications do not say it; None = not known.
        ended: the trials, those on reference data among them.
        labellings: see `choices`.
    """
    data, references = [], dict[Any, list[Labelling]]()
    causes: list[str] = []
    for trial, outcome in ended:
        found = list(labellings(trial)) if outcome.figures else []
        options = trial.spec.dataset_options
        if on_reference(trial):
            references.setdefault((options["reference"], options.get("reference_draw", 0)), []).extend(found)
        else:
            data += found
        if cause := _cause(outcome):
            what = f" on {options['reference']} data" if on_reference(trial) else ""
            causes.append(f"seed {seed(trial)}{what} {cause}")
    k = ended[0][0].spec.parameters.get("n_clusters", n_clusters)
    seen = max((int(labelling.labels.max()) + 1 for labelling in data), default=1)
    return Evidence(value, max(k or 1, seen), data, list(references.values()), tuple(causes))


def on_reference(trial: Trial) -> bool:
    """Return whether a trial is on structureless data."""
    return trial.spec.dataset_options.get("reference") is not None


def undisturbed(spec: Spec) -> Spec:
    """Return a specification with its data as it is, neither resampled nor replaced by a reference."""
    kept = {k: v for k, v in spec.dataset_options.items() if not k.startswith(("resample", "reference"))}
    return replace(spec, dataset_options=kept)


def _cause(outcome: Outcome) -> str:
    """Return what became of a trial that has no vote, or fewer than its members, as in "collapsed"; else ""."""
    if outcome.cause:
        return f"{outcome.status}: {outcome.cause}"
    found = {name: int(outcome.figures.get(name, 0)) for name in ("collapsed", "abstained", "lost")}
    if outcome.figures and not outcome.figures.get("voters", 1):
        return "collapsed" if found["collapsed"] else "has no member with a vote"
    silent = [f"{count} {name} member{'' if count == 1 else 's'}" for name, count in found.items() if count]
    return f"has {' and '.join(silent)}" if silent else ""


def _grouped(ended: Sequence[Ended], names: Sequence[str]) -> dict[tuple[Any, ...], list[Ended]]:
    found: dict[tuple[Any, ...], list[Ended]] = {}
    for trial, outcome in ended:
        found.setdefault(tuple(trial.values[name] for name in names), []).append((trial, outcome))
    return found


# In words


def _sentence(axis: str, candidates: Sequence[Candidate], first: Candidate, level: Sequence[Candidate]) -> str:
    """Return what is recommended where a value can be; `level` are those with the first, itself among them."""
    told = f"{_ahead(candidates, first)}; {_told(first)}"
    if len(level) > 1:
        told = f"cannot tell: {axis} {_listed([c.value for c in level])} are level, {told}"
    else:
        told = f"{axis}={value_text(first.value)} is recommended, {told}"
    if coarser := [c.value for c in candidates if not c.faults and _coarser(first, c)]:
        told += f"; {_listed(coarser)} {'is' if len(coarser) == 1 else 'are'} as stable, with fewer clusters"
    return f"{told}{_ends(axis, candidates, level)}."


def _ends(axis: str, candidates: Sequence[Candidate], level: Sequence[Candidate]) -> str:
    """Return which of the level values is the last of those that were tried, as better ones may lie beyond."""
    tried = [c.value for c in candidates if isinstance(c.value, int | float)]
    values = [c.value for c in level]
    if len(tried) < max(3, len(candidates)):  # two are a comparison, and names have no end
        return ""
    said = ""
    if max(tried) in values:
        said += f"; {value_text(max(tried))} is the greatest that was tried, so try greater ones"
    if min(tried) in values and (axis, min(tried)) != ("n_clusters", 2):
        said += f"; {value_text(min(tried))} is the least that was tried, so try lesser ones"
    return said


def _nothing(axis: str, candidates: Sequence[Candidate]) -> str:
    """Return why no value is recommended where none is fit."""
    compared = [c for c in candidates if not math.isnan(c.gap)]
    if not compared:
        return f"cannot tell: no {axis} can be judged; " + "; ".join(_fault_of(c) for c in candidates) + "."
    nearest = max(compared, key=lambda c: c.strength / max(c.error, _HALF / BEYOND))
    least, most = value_text(candidates[0].value), value_text(candidates[-1].value)
    return (
        f"cannot tell: no {axis} from {least} to {most} is clearly more stable on the data than on structureless data "
        f"of the same covariance; the nearest is "
        f"{value_text(nearest.value)}, {_told(nearest)}. There may be no groups, or none that this method finds."
    )


def _told(c: Candidate) -> str:
    reference = "" if math.isnan(c.reference) else f", {c.reference:.2f} without structure"
    return f"stability {c.stability:.2f}{reference}, {c.agreed:.0%} of the points agreed on"


def _ahead(candidates: Sequence[Candidate], first: Candidate) -> str:
    rivals = [c for c in candidates if not c.faults and c is not first and not _coarser(first, c)]
    if not rivals:
        return "no other can be" if math.isnan(first.gap) else "no other is beyond structureless data"
    nearest = min(rivals, key=lambda c: lead(first, c))
    one, two = value_text(first.value), value_text(nearest.value)
    return f"{one} leads {two} by {lead(first, nearest):.1f} standard errors"


def _fault_of(c: Candidate) -> str:
    return f"{value_text(c.value)}: {', '.join(c.faults)}"


def _listed(values: Sequence[Any]) -> str:
    """Return values as in "4, 5 and 6", or "4"."""
    return " and ".join(", ".join(map(value_text, part)) for part in (values[:-1], values[-1:]) if part)


def markdown(choice: Choice) -> str:
    """Return a choice as a table in Markdown, a row a value, and its sentence."""
    head = [choice.axis, "stability", "without structure", "gap", "agreed %", "clusters in effect", "silhouette", ""]
    rows = [_cells(choice, c) for c in choice.candidates]
    return "\n\n".join([in_columns(head, rows), titled(choice)])


def titled(choice: Choice) -> str:
    """Return the sentence of a choice, after the values of the other axes where there are any."""
    setting = ", ".join(f"{name} {value_text(value)}" for name, value in choice.setting.items())
    return f"{setting}: {choice.sentence}" if setting else choice.sentence


def _cells(choice: Choice, c: Candidate) -> list[str]:
    cells = [
        value_text(c.value),
        _with_spread(c.stability, c.spread),
        _with_spread(c.reference, c.reference_spread),
        _number(c.gap, 2),
        _number(100 * c.agreed, 1),
        _number(c.effective_clusters, 1),
        _number(c.silhouette, 2),
    ]
    chosen = c.value == choice.recommended
    remarks = "; ".join([*(["recommended"] if chosen else []), *c.faults, *c.remarks])
    return [f"**{cell}**" if chosen and cell else cell for cell in cells] + [remarks]


def plain(choice: Choice) -> dict[str, Any]:
    """Return a choice as JSON takes it, what is not a number as None."""
    found: dict[str, Any] = _finite(asdict(choice))
    return found


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_spread(mean: float, spread: float) -> str:
    return "" if math.isnan(mean) else f"{mean:.2f}" if math.isnan(spread) else f"{mean:.2f} ({spread:.2f})"


def _number(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def _mean(values: Floats) -> float:
    """Return the mean of what is not nan; nan where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _std(values: Floats) -> float:
    """Return the standard deviation of what is not nan; nan with fewer than two."""
    known = values[~np.isnan(values)]
    return float(known.std(ddof=1)) if len(known) > 1 else math.nan
