"""The one part of a report that reads true classes: scores, published numbers, confusion, calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from distclust import metrics
from distclust.contracts import Array, Labels
from distclust.published import Published, table
from distclust.report.elements import Grid, Pairs, Picture, Table, evenly, of_pairs, percent, picture
from distclust.report.evidence import Evidence
from distclust.report.pictures import NARROW, Chart, Curve, panels
from distclust.spec import Spec

MOST_LEVELS = 12  # of agreement, in a table
_MIX_UPS = 5
_SCORES = {"acc": "accuracy", "nmi": "NMI", "ari": "ARI"}
# Where a method's numbers are printed, and by which value of which parameter under what name.
_PRINTED: Mapping[str, tuple[Sequence[str], str | None, Mapping[Any, str]]] = {
    "selective": (("selective-1",), "labelling", {"auto": "SPC", "umap-hdbscan": "SPC", "umap-gmm": "SPC-GMM"}),
    "combination": (
        ("combination-1",),
        "support",
        {
            "greedy": "CA (ours)",
            "sinkhorn": "SK",
            "entropy": "ENT",
            "sum-of-squares": "SS",
            "concrete-k-means": "CKM",
            "none": "no reg",
        },
    ),
    "entropy": (
        ("entropy-3", "entropy-4", "entropy-5"),
        "loss",
        {
            "self-labelling": "Our",
            "mutual-information": "MIGD",
            "imsat": "IMSAT",
            "iic": "IIC",
            "sela": "SeLa",
            "miadm": "MIADM",
            "scan": "SCAN",
            "k-means": "K-means",
        },
    ),
    "mice": (("mice-1",), None, {None: "MiCE (Ours)"}),
    "moco": (("mice-1",), None, {None: "MoCo"}),
}


class Coverage(NamedTuple):
    """What holds of the surest points, as more and more are kept."""

    picture: Picture
    levels: Table


class Classes(NamedTuple):
    """What the points' own classes say."""

    confusion: Grid | Picture
    mix_ups: Sequence[str]
    coverage: Coverage


class Calibration(NamedTuple):
    """How far a confidence can be taken at its word."""

    sentence: str
    picture: Picture
    table: Table


class Truth(NamedTuple):
    """What a page says with true classes."""

    scores: Table
    published: Table | None  # None = nothing is printed for such a run
    remark: str  # on what is printed
    classes: Classes | None  # None = they cannot be had any more
    calibration: Calibration | None  # None = no point has a label and a class


def truth(evidence: Evidence) -> Truth | None:
    """Return what a page says with true classes; None where there are none."""
    e, found = evidence, evidence.with_truth
    if found is None:
        return None
    y, labels = e.data.y if e.data is not None else None, e.labelled.labels
    there = None if y is None or not ((y >= 0) & (labels >= 0)).any() else y
    bins = found.get("reliability") or (None if there is None or not e.has_agreement else _agreement_bins(e, there))
    printed = printed_numbers(e.spec, e.parameter)
    return Truth(
        _scores(found),
        _beside(printed, found["consensus"]) if printed else None,
        _remark(e.spec, printed),
        None if there is None else _classes(e, there),
        _calibration(bins) if bins else None,
    )


def printed_numbers(spec: Spec, parameter: Callable[[str], Any]) -> list[Published]:
    """Return the numbers that the method's paper prints for the dataset: accuracy, NMI and ARI.

    Args:
        spec: of the run.
        parameter: gives the value of a parameter of its method.
    """
    tables, name, printed = _PRINTED.get(spec.method, ((), None, {}))
    method = printed.get(parameter(name) if name else None)
    return [
        number
        for number in (number for name in tables for number in table(name))
        if number.dataset == spec.dataset and number.method == method and number.metric in _SCORES
    ]


def _scores(found: Mapping[str, Any]) -> Table:
    mean, spread, there = found["members_mean"], found["members_std"], [m for m in found["members"] if m]
    rows = [["consensus", *(percent(found["consensus"][s]) for s in _SCORES)]]
    if found["agreed_points"]:
        rows.append(["agreed points", *(percent(found["agreed_points"][s]) for s in _SCORES)])
    if len(there) > 1:
        rows.append(["members' mean (sd)", *(f"{mean[s]:.1%} ({100 * spread[s]:.1f})" for s in _SCORES)])
    return Table("Compared with the true classes", ["", *_SCORES.values()], rows)


def _beside(printed: Sequence[Published], consensus: Mapping[str, float]) -> Table:
    rows = []
    for n in printed:
        ours = n.scale * consensus[n.metric]
        name = ", ".join(filter(None, (n.method, n.setting)))
        spread = "" if n.std is None else f" ({n.std:g})"
        chosen = "chosen with true labels" if n.chosen_with_truth else ""
        what = f"{n.paper} {n.table}: {name}"
        rows.append([what, _SCORES[n.metric], f"{n.mean:g}{spread}", f"{ours:.1f}", f"{ours - n.mean:+.1f}", chosen])
    head = ["table", "figure", "published (sd)", "this run", "difference", "remark"]
    return Table("Beside the published numbers, in percent", head, rows)


def _remark(spec: Spec, printed: Sequence[Published]) -> str:
    if not printed:
        return f"No number is published for {spec.method} with these parameters on {spec.dataset}."
    part = ", ".join(f"{name}={value}" for name, value in spec.dataset_options.items() if name != "data_dir")
    only = f" This run was on {spec.dataset} with {part}." if part else ""
    return f"Published numbers are of the paper's own settings, and this is one run.{only}"


def _classes(e: Evidence, y: Labels) -> Classes:
    counts = metrics.contingency(e.labelled.labels, y)
    order = _in_order_of_classes(counts)
    shares = counts[order] / counts[order].sum(1, keepdims=True)
    pairs = Pairs(
        "Points by cluster (rows) and true class (columns); shaded by the share of the cluster. Clusters stand in the "
        "order of the classes that they are matched with.",
        "cluster",
        "class",
        [str(k) for k in order],
        [str(c) for c in range(counts.shape[1])],
        shares,
        [[f"{n:,}" if n else "" for n in row] for row in counts[order]],
    )
    known = y >= 0
    right = metrics.correct(e.labelled.labels, y)
    curve = metrics.coverage_curve(np.nan_to_num(e.labelled.share[known]), right[known])
    return Classes(of_pairs(pairs), _mix_ups(counts), covered(curve, "accuracy"))


def _matched(counts: Array) -> dict[int, int]:
    """Return the class of each cluster that is matched with one."""
    return {int(k): int(c) for k, c in zip(*linear_sum_assignment(counts, maximize=True), strict=True)}


def _in_order_of_classes(counts: Array) -> list[int]:
    """Return the clusters that have points, in the order of their classes, those without a class last."""
    matched = _matched(counts)
    there = [int(k) for k in np.flatnonzero(counts.sum(1))]
    return sorted(there, key=lambda k: (matched.get(k, counts.shape[1]), k))


def _mix_ups(counts: Array) -> list[str]:
    """Return the largest numbers of points whose class is not that of their cluster."""
    wrong = counts.copy()
    for k, c in _matched(counts).items():
        wrong[k, c] = 0
    largest = [divmod(int(at), wrong.shape[1]) for at in np.argsort(-wrong, axis=None, kind="stable")[:_MIX_UPS]]
    return [f"{wrong[k, c]:,} points of class {c} in cluster {k}" for k, c in largest if wrong[k, c]]


def covered(curve: metrics.CoverageCurve, name: str) -> Coverage:
    """Return a coverage curve as a picture and a table.

    Args:
        curve: by agreement.
        name: what its mean is called, as in "accuracy".
    """
    chart = Chart(
        "",
        "points kept, the surest first, in %",
        f"{name} among them in %",
        [Curve("", 100 * curve.coverage, 100 * curve.mean, 0)],
        top=105 if np.ptp(curve.mean) == 0 else None,
        bands=True,
    )
    rows = [
        [percent(level), percent(share), percent(mean)]
        for level, share, mean in zip(curve.confidence, curve.coverage, curve.mean, strict=True)
    ]
    caption = f"Keep only the points with at least this agreement: how many are left, and the {name} among them"
    shown = Table(caption, ["agreement", "points kept", name], evenly(rows, MOST_LEVELS))
    alt = (
        f"Curve of {name} by the share of points kept: {rows[0][2]} for the surest {rows[0][1]}, {rows[-1][2]} for all."
    )
    return Coverage(picture(panels("", [chart], form=NARROW), alt, f"Coverage and {name}"), shown)


def _agreement_bins(e: Evidence, y: Labels) -> dict[str, Any]:
    bins = metrics.reliability(e.labelled.share, e.labelled.labels, y)
    error = metrics.expected_calibration_error(bins)
    n_samples = sum(b.n_points for b in bins)
    return {
        "n_samples": n_samples,
        "agreement": {"expected_calibration_error": error, "bins": [asdict(b) for b in bins]},
    }


def _calibration(found: Mapping[str, Any]) -> Calibration:
    names = [name for name in ("agreement", "predict_proba") if name in found]
    ends = np.array([0.0, 100.0])
    curves = [Curve("as often as it says", ends, ends, 6, dashed=True)]
    rows = []
    for colour, name in enumerate(names):
        bins = found[name]["bins"]
        sure, right = (np.array([100 * b[what] for b in bins]) for what in ("confidence", "accuracy"))
        curves.append(Curve(name, sure, right, colour, joined=False))
        rows += [
            [
                name,
                f"{b['n_points']:,}",
                percent(b["confidence"]),
                percent(b["accuracy"]),
            ]
            for b in bins
        ]
    off = [f"{name} is off by {percent(found[name]['expected_calibration_error'])}" for name in names]
    chart = Chart("", "confidence in %", "right in %", curves, top=105)
    sentence = (
        f"Taken as the chance that a point's label is right, {' and '.join(off)} on average over "
        f"{found['n_samples']:,} points."
    )
    head = ["confidence", "points", "says", "is right"]
    return Calibration(
        sentence,
        picture(
            panels("", [chart], form=NARROW),
            f"Reliability diagram: how often points are right by how sure the ensemble is. {sentence}",
            "Confidence and how often it is right; the dashed line is where both are the same",
        ),
        Table("Confidence, and how often it is right", head, rows),
    )
