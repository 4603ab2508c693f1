"""report.html, one self-contained page on a run: python -m distclust.run report RUN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import distclust
from distclust import metrics
from distclust.contracts import Dataset, Labels
from distclust.report.cards import MANY, Card, cards
from distclust.report.elements import Grid, Pairs, Picture, Table, evenly, listed, of_pairs, percent, picture, spans
from distclust.report.embeddings import chosen_points, flat
from distclust.report.evidence import Evidence, Latents, gathered
from distclust.report.pictures import NARROW, Chart, Cloud, Curve, Graded, clouds, graded, panels
from distclust.report.thumbnails import AS_THEY_ARE, MOST_LINES
from distclust.report.truth import Coverage, Truth, covered, truth
from distclust.results import RunFolder

REPORT = "report.html"
_TEMPLATE = Path(__file__).with_name("page.html")
_MAP_POINTS = 1_000
_FEWEST_POINTS = 10  # of a map
_MAP_STEPS = 500  # of t-SNE: half of the usual, as trustworthy on 1,000 digits (0.9958 for 0.9961)
_MOST_ROUNDS = 12  # in a table
_LEAST_AGREED = 3  # clusters that are named
_FEW_CLUSTERS = 0.8  # of all, in effect; fewer are worth a remark
_NOT_LOSSES = {"status", "cause", "effective_clusters", "largest_cluster", "confidence"}

WHAT_TO_TRY: Mapping[tuple[str, str], str] = {
    ("collapsed", "selective"): "More passes before the first labelling (pretrain_epochs=200), or another labelling "
    "(labelling=umap-gmm).",
    (
        "collapsed",
        "combination",
    ): "Another partition support (support=greedy, exact or sinkhorn), a greater sigma, or a lower learning_rate.",
    ("collapsed", "entropy"): "More passes over the data (n_epochs), a smaller gamma, views that weigh less "
    "(augmentation_weight), or another loss.",
    ("collapsed", "mice"): "More passes over the data (n_epochs), or views that change less (views).",
    ("collapsed", "moco"): "More passes over the data (n_epochs), or views that change less (views).",
    ("abstained", "selective"): "A mixture always finds n_clusters groups (labelling=umap-gmm); or another n_clusters: "
    "python -m distclust.run sweep tune_configs/choose_k.yaml looks for one that is stable.",
}
_LOST = (
    "Where memory ran out, run fewer members at a time (pool.cpus_per_member=2); where a machine went away, allow more "
    "restarts (pool.retries=10). The same command trains all members again."
)
_MEANS = {
    "collapsed": "Nearly all points went into one cluster. That says nothing of the data, so it counts for no vote.",
    "abstained": "The points could not be divided into so many clusters, so there was nothing to vote with.",
    "lost": "Training failed, or its process died, and could not be started again; the others went on.",
}


class Trouble(NamedTuple):
    """Why members have no vote, and what to try."""

    what: str  # as in "Member 3 collapsed"
    means: str
    causes: Sequence[str]
    cure: str


class Map(NamedTuple):
    """Where points lie, in the latents of a member."""

    sentence: str
    pictures: Sequence[Picture]


def write_report(folder: RunFolder, data: Dataset | None = None) -> Path:
    """Write report.html into the folder of a run, and return where it lies.

    Args:
        folder: of a run, finished or interrupted.
        data: what it was run on; None = load it.

    Raises:
        RunFolderError: no round is finished, or a file cannot be read or written.
        InputError: its specification cannot be used.
    """
    folder.write(REPORT, page(gathered(folder, data)).encode())
    return folder.path / REPORT


def page(evidence: Evidence) -> str:
    """Return the page as HTML: no script, no network, everything inline and escaped."""
    from jinja2 import Environment, StrictUndefined

    from distclust.distributed.pool import threads

    e = evidence
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {"percent": percent, "spans": spans}
    environment.tests |= {"picture": lambda value: isinstance(value, Picture)}
    with threads(1):  # the numbers are then the same on any number of CPUs
        clusters, known = cards(e), truth(e)
        shown = {
            "e": e,
            "subject": subject(e),
            "answer": answer(e),
            "facts": facts(e),
            "cards": clusters,
            "many": e.n_clusters > MANY,
            "windows": e.data is not None and e.data.x.ndim == 3,
            "space": "the data itself" if e.latents is None else f"the latents of member {e.latents.member}",
            "which": which_points(e),
            "least": least_agreed(clusters),
            "empty": sorted(set(range(e.n_clusters)) - {card.cluster for card in clusters}),
            "note": note_on_points(e),
            "feature_table": feature_table,
            "coverage": _coverage(e, known),
            "calibrated": calibrated(e),
            "map": _map(e),
            "members": members(e),
            "baselines": baselines(e),
            "pairs": pairs(e),
            "troubles": troubles(e),
            "rounds": rounds_table(e),
            "courses": courses(e),
            "truth": known,
            "spec": e.spec.to_yaml(),
            "version": distclust.__version__,
        }
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(shown)


# In words


def subject(e: Evidence) -> str:
    """Return what was run, in a line."""
    x = e.data.x if e.data is not None else None
    shape = "" if x is None else f" of {' x '.join(map(str, x.shape[1:]))}"
    member = "a single member" if len(e.members) == 1 else f"{len(e.members)} members"
    done = len(e.rounds)
    rounds = f"{done} round{'s' * (done > 1)}" if e.finished else f"{done} of {e.parameter('n_rounds')} rounds"
    return (
        f"{e.spec.method} with {member} on {Path(e.spec.dataset).stem}: {len(e.labelled.labels):,} points{shape}, "
        f"{e.n_clusters} clusters, {rounds}, seed {e.seed}"
    )


def answer(e: Evidence) -> str:
    """Return what was found, in a sentence."""
    sizes = np.bincount(e.labelled.labels[e.labelled.labels >= 0], minlength=1)
    sizes = sizes[sizes > 0]
    if not e.voters or not len(sizes):
        return "No member has a vote, so no point has a label; below is why, and what to try."
    found = f"{len(sizes)} clusters of {sizes.min():,} to {sizes.max():,} points"
    if sizes.min() == sizes.max():
        found = f"{len(sizes)} clusters of {sizes[0]:,} points each" if len(sizes) > 1 else "a single cluster"
    if e.voters == 1:
        return f"A single voter found {found}; with one alone nothing says how far they can be trusted."
    threshold = float(e.parameter("agreement_threshold"))
    voting = sum(member["status"] == "voting" for member in e.members)
    whom = (
        f"At least {threshold:.0%} of {e.voters}" if threshold < 1 else "Both" if e.voters == 2 else f"All {e.voters}"
    )
    whom += " members" if voting == e.voters else f" voters ({voting} members, and their latents together)"
    return (
        f"{whom} agree on {e.labelled.agreed.mean():.1%} of {len(e.labelled.labels):,} points, which fall into {found}."
    )


def facts(e: Evidence) -> list[tuple[str, str]]:
    """Return the figures of the last round, with their names."""
    last = e.rounds[-1]
    shares = [("points agreed on", percent(last["agreed"])), ("mean agreement", percent(last["agreement"]))]
    found = [
        *(shares if e.has_agreement else []),
        ("clusters in effect", f"{last['effective_clusters']:.1f} of {e.n_clusters}"),
        ("members with a vote", f"{sum(m['status'] == 'voting' for m in e.members)} of {len(e.members)}"),
        ("training", _duration(sum(line["seconds"] for line in e.rounds))),
    ]
    if last["stability"] is not None:
        found.insert(2, ("stability", f"{last['stability']:.2f}"))
    return found


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def calibrated(e: Evidence) -> str:
    """Return how the probabilities of `predict_proba` came about, in a sentence; "" = nothing is known of it."""
    c = e.calibration
    if c is None or not c["n_points"]:
        return ""
    return (
        f"The probabilities of predict_proba are calibrated without labels: as the networks say it, members give their "
        f"cluster {percent(c['uncalibrated'])} on average, while a member that is left out says the same in "
        f"{percent(c['observed'])}; with a temperature of {c['temperature']:.2g} they give it "
        f"{percent(c['calibrated'])} ({c['n_points']:,} points)."
    )


# The members


def members(e: Evidence) -> Table:
    """Return what the members ended with."""
    losses, together = _losses(e), _with_the_others(e)
    rows = [
        [
            str(index),
            member["status"],
            _figure(together[index], ".2f"),
            _figure(member.get("effective_clusters"), ".1f"),
            percent(member.get("largest_cluster")),
            *(_figure(member.get(name), ".3g") for name in losses),
        ]
        for index, member in enumerate(e.members)
    ]
    head = [
        "member",
        "status",
        "stability",
        "clusters in effect",
        "largest cluster",
        *(name.replace("_", " ") for name in losses),
    ]
    caption = "The members after the last round; stability is the mean adjusted Rand index with the other members"
    return Table(caption, head, rows)


def baselines(e: Evidence) -> Table | None:
    """Return what cheap clusterers find in the same points; None where they did not run."""
    if not e.baselines:
        return None
    scores = e.with_truth.get("baselines", []) if e.with_truth else []
    rows = [
        [
            one["name"],
            _figure(one["stability"], ".2f"),
            _figure(one["agreement_with_consensus"], ".2f"),
            _figure(one["effective_clusters"], ".1f"),
            *([percent(scores[index]["acc"])] if index < len(scores) and scores[index] else []),
        ]
        for index, one in enumerate(e.baselines)
    ]
    head = ["baseline", "stability", "adjusted Rand index with the consensus", "clusters in effect", "accuracy"]
    caption = f"Cheap clusterers of the input next to the ensemble: {e.baselines[0]['n_points']:,} points, three seeds"
    return Table(caption, head[: len(rows[0])], rows)


def _with_the_others(e: Evidence) -> list[float | None]:
    """Return each member's mean adjusted Rand index with the others that have a vote; None = there is none."""
    found = metrics.pairwise_stability(e.labelled.aligned)
    np.fill_diagonal(found, np.nan)
    return [None if np.isnan(row).all() else float(np.nanmean(row)) for row in found]


def pairs(e: Evidence) -> Grid | Picture | None:
    """Return how far each two members agree; None with fewer than two."""
    if len(e.members) < 2:
        return None
    found = metrics.pairwise_stability(e.labelled.aligned)
    names = [str(member) for member in range(len(found))]
    texts = [["" if np.isnan(value) else f"{100 * value:.0f}" for value in row] for row in found]
    caption = "Member against member: adjusted Rand index times 100; 100 = the same groups, 0 = no more than by chance"
    return of_pairs(Pairs(caption, "member", "member", names, names, found, texts))


def troubles(e: Evidence) -> list[Trouble]:
    """Return why members have no vote, and what to try; a status at a time."""
    found = []
    for status, means in _MEANS.items():
        which = [index for index, member in enumerate(e.members) if member["status"] == status]
        if which:
            who = f"Member {which[0]}" if len(which) == 1 else f"Members {listed(which)}"
            causes = _causes(e, which)
            cure = _LOST if status == "lost" else WHAT_TO_TRY.get((status, e.spec.method), "")
            found.append(Trouble(f"{who} {status}", means, causes, cure))
    last = e.rounds[-1]
    found += [Trouble("Of the vote", remark, [], "") for remark in last["remarks"]]
    if e.voters and last["effective_clusters"] < _FEW_CLUSTERS * e.n_clusters:
        means = f"Their sizes are as uneven as if there were {last['effective_clusters']:.1f} equal ones."
        found.append(Trouble("Few clusters in effect", means, [], WHAT_TO_TRY.get(("collapsed", e.spec.method), "")))
    return found


def _causes(e: Evidence, which: Sequence[int]) -> list[str]:
    """Return the causes, those that members share once."""
    by_cause: dict[str, list[int]] = {}
    for index in which:
        by_cause.setdefault(e.members[index]["cause"], []).append(index)
    return [f"{listed(indices)}: {cause}" for cause, indices in by_cause.items()]


# The rounds


def rounds_table(e: Evidence) -> Table:
    """Return the course of the rounds in numbers."""
    rows = [
        [
            str(line["round"] + 1),
            percent(line["agreed"]),
            percent(line["agreement"]),
            _figure(line["stability"], ".2f"),
            _figure(line["effective_clusters"], ".1f"),
            str(line["voters"]),
            f"{line['seconds']:.1f}",
        ]
        for line in e.rounds
    ]
    head = ["round", "agreed", "mean agreement", "stability", "clusters in effect", "voters", "seconds"]
    some = f" ({_MOST_ROUNDS} of {len(rows)}; all are in rounds.jsonl)" if len(rows) > _MOST_ROUNDS else ""
    return Table(f"Round by round{some}", head, evenly(rows, _MOST_ROUNDS))


def courses(e: Evidence) -> list[Picture]:
    """Return the course of the rounds in pictures; none for a single round."""
    if len(e.rounds) < 2:
        return []
    shares = [_course(e, colour, name) for colour, name in enumerate(("agreed", "agreement", "stability"))]
    chart = Chart("", "round", "0 to 1", shares, top=1.05, bands=True)
    shown = [("How far the members agree", chart)] if e.has_agreement else []
    for name in _losses(e):
        means, spreads = _mean_of_members(e, name)
        known = np.flatnonzero(~np.isnan(means))
        if len(known):
            curve = Curve("mean of the members, and their spread", known + 1.0, means[known], 1, spread=spreads[known])
            words = name.replace("_", " ")
            shown.append((f"{words.capitalize()} of the members", Chart("", "round", words, [curve], bands=True)))
    return [
        picture(panels("", [chart], form=NARROW), f"{caption}: {_told(chart)}.", caption) for caption, chart in shown
    ]


def _course(e: Evidence, colour: int, name: str) -> Curve:
    values = np.array([np.nan if line[name] is None else line[name] for line in e.rounds])
    known = np.flatnonzero(~np.isnan(values))
    words = {"agreed": "points agreed on", "agreement": "mean agreement", "stability": "stability"}[name]
    return Curve(words, known + 1.0, values[known], colour, dashed=colour == 1)


def _told(chart: Chart) -> str:
    """Return where the curves of a chart begin and end, in words."""
    return "; ".join(
        f"{curve.name or chart.value_label} goes from {curve.values[0]:.3g} in round {curve.x[0]:.0f} to "
        f"{curve.values[-1]:.3g} in round {curve.x[-1]:.0f}"
        for curve in chart.curves
        if len(curve.x)
    )


def _losses(e: Evidence) -> list[str]:
    """Return the names of the members' losses, as they come."""
    names = (name for line in e.rounds for member in line["members"] for name in member)
    return [name for name in dict.fromkeys(names) if name not in _NOT_LOSSES]


def _mean_of_members(e: Evidence, name: str) -> tuple[Any, Any]:
    """Return a figure's mean over the members that have it, and its standard deviation, (rounds,) each; nan = none."""
    values = [[m[name] for m in line["members"] if m.get(name) is not None] for line in e.rounds]
    means = np.array([np.mean(row) if row else np.nan for row in values])
    return means, np.array([np.std(row) if row else np.nan for row in values])


# Where the points lie, and how sure they are


def _map(e: Evidence) -> Map | str:
    """Return the map, or why there is none."""
    if e.latents is None:
        return f"There is no map: {e.missing['latents']}"
    rows = chosen_points(len(e.labelled.labels), _MAP_POINTS, e.seed)
    if len(rows) < _FEWEST_POINTS:
        return f"There is no map: {len(rows)} points are too few for one."
    at = flat(_of_rows(e.latents, rows), "tsne", e.seed, _MAP_STEPS)
    labels, agreed = e.labelled.labels[rows], e.labelled.agreed[rows]
    n = len(e.labelled.labels)
    which = f"all {n:,} points" if len(rows) == n else f"{len(rows):,} of {n:,} points, drawn by the seed"
    sentence = (
        f"The latents of member {e.latents.member} in the plane, by t-SNE: {which}. What lies together is alike to the "
        f"network; distances between groups, and directions, mean little."
    )
    by_cluster = picture(
        clouds("", [Cloud("", at, labels)], e.n_clusters, "cluster", NARROW),
        f"Map of {which}, each with the colour and marker of its cluster, numbered where it lies.",
        "By cluster",
    )
    if not e.has_agreement:
        return Map(sentence, [by_cluster])
    share = e.labelled.share[rows]
    shade = Graded(at, share, float(min(share.min(), 0.5)), agreed, ("agreed on", "not agreed on"))
    return Map(
        sentence,
        [
            by_cluster,
            picture(
                graded(shade, "agreement", NARROW),
                f"The same map by agreement: {percent(agreed.mean())} of the points shown are agreed on (dots), the "
                f"others are triangles.",
                "By agreement",
            ),
        ],
    )


def _of_rows(latents: Latents, rows: Labels) -> Any:
    return latents.values[np.searchsorted(latents.rows, rows)]


def _coverage(e: Evidence, known: Truth | None) -> Coverage | None:
    """Return accuracy by coverage, or mean agreement where no class is known.

    Returns:
        None with fewer than two voters, or where they agree on every point.
    """
    share = e.labelled.share
    if e.voters < 2 or (share == 1).all():
        return None
    if known and known.classes:
        return known.classes.coverage
    return covered(metrics.coverage_curve(share, share), "mean agreement")


def least_agreed(shown: Sequence[Card]) -> list[Card]:
    """Return the clusters whose points are agreed on least, if there are many more."""
    doubtful = sorted((card for card in shown if card.agreement < 1), key=lambda card: (card.agreement, card.cluster))
    return doubtful[:_LEAST_AGREED] if len(shown) > 2 * _LEAST_AGREED else []


def feature_table(card: Card) -> Table:
    """Return what sets a cluster apart, as a table."""
    rows = [
        [
            feature.name,
            f"{feature.mean:.3g}",
            f"{feature.overall:.3g}",
            f"{'▲' if feature.difference > 0 else '▼'} {abs(feature.difference):.1f}",
        ]
        for feature in card.features
    ]
    return Table(f"What sets cluster {card.cluster} apart", ["feature", "here", "of all", "apart"], rows)


def which_points(e: Evidence) -> str:
    """Return among which points typical ones are looked for, and what stands below each point that is shown."""
    n_points = len(e.labelled.labels)
    looked_at = n_points if e.latents is None else len(e.latents.rows)
    among = f"Typical ones are looked for among {looked_at:,} of {n_points:,} points, drawn by the seed. "
    named = e.data is not None and e.data.names is not None and e.data.x.ndim == 2
    below = "Below points stand their names." if named else "Numbers below points are rows of the data, from 0."
    return (among if looked_at < n_points else "") + below


def note_on_points(e: Evidence) -> str:
    """Return what has to be said of how points are drawn; "" = nothing."""
    if e.data is None:
        return f"The points themselves are not shown: {e.missing['data']}"
    shape = e.data.x.shape[1:]
    if len(shape) == 1:
        return "Features are apart by so many standard deviations of all points: ▲ above their mean, ▼ below it."
    if len(shape) == 2 and shape[0] > MOST_LINES:
        return f"Of windows the first {MOST_LINES} of {shape[0]} channels are drawn."
    if len(shape) == 3 and shape[0] not in AS_THEY_ARE:
        return f"Of images the mean of their {shape[0]} channels is drawn."
    return ""


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
