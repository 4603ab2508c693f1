"""The papers' numbers: counted, spot-checked against the papers, and ours beside them."""

import collections
import math
import re

import pytest

from distclust import data
from distclust.errors import UnknownNameError
from distclust.published import Ours, as_printed, compare, markdown, published, table, table_names
from distclust.published.compare import PAPERS


def squeezed(table):
    """A table without the blanks that pad its columns."""
    return re.sub(r" +", " ", table)


COUNTS = {  # (paper, table) -> rows x columns less what is missing
    ("combination", "1"): 120,
    ("combination", "2"): 60,
    ("combination", "3"): 50,
    ("combination", "4"): 50,
    ("combination", "5"): 300,
    ("combination", "6"): 48,
    ("combination-supplement", "3"): 84,
    ("selective", "1"): 94,
    ("selective", "2"): 42,
    ("selective", "3"): 72,
    ("selective", "4"): 30,
    ("selective", "5"): 30,
    ("selective", "6"): 30,
    ("mice", "1"): 222,
    ("mice", "2"): 8,
    ("mice", "3 left"): 5,
    ("mice", "3 right"): 5,
    ("mice", "4"): 9,
    ("entropy", "1"): 12,
    ("entropy", "2"): 5,
    ("entropy", "3"): 24,
    ("entropy", "4"): 24,
    ("entropy", "5"): 36,
    ("entropy", "6"): 36,
}


def everything():
    return [number for paper in PAPERS for number in published(paper)]


def test_every_table_is_there_whole():
    assert collections.Counter((n.paper, n.table) for n in everything()) == COUNTS


def test_no_number_stands_twice_and_all_are_plausible():
    keys = [(n.paper, n.table, n.dataset, n.method, n.setting, n.metric) for n in everything()]
    assert len(set(keys)) == len(keys)
    for n in everything():
        assert math.isfinite(n.mean)
        assert n.mean >= 0 or n.metric == "ari"
        assert n.std is None or 0 <= n.std < 60 or n.metric not in ("acc", "nmi", "ari")
        if n.metric in ("acc", "nmi", "ari"):
            assert n.mean <= (1 if n.scale == 1 else 100)


@pytest.mark.parametrize(
    ("paper", "table", "dataset", "method", "setting", "metric", "mean", "std"),
    [
        ("combination", "1", "fashion-mnist", "CA (ours)", "", "acc", 59.3, 4.16),
        ("selective", "1", "usps", "SPC", "", "acc", 98.40, 0.94),
        ("selective", "3", "usps", "SPC", "ensemble size=15", "acc", 98.40, 0.94),
        ("mice", "1", "cifar10", "MiCE (Ours)", "Mean", "acc", 83.4, 0.2),
        ("mice", "1", "cifar10", "MoCo", "Mean", "nmi", 66.0, 0.6),
        ("entropy", "4", "mnist", "Our", "backbone=VGG4", "acc", 93.58, 4.8),
    ],
)
def test_some_numbers_read_by_eye(paper, table, dataset, method, setting, metric, mean, std):
    found = [
        n
        for n in published(paper)
        if (n.table, n.dataset, n.method, n.metric) == (table, dataset, method, metric) and setting in n.setting
    ]
    assert (mean, std) in [(n.mean, n.std) for n in found]


def test_an_unknown_paper_is_answered_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="mice"):
        published("mise")


def test_the_datasets_have_the_names_of_load():
    named = {n.dataset for n in everything()} - {""}
    assert named - set(data.NAMES) == {"imagenet-dog"}


def test_ours_stands_beside_theirs_in_their_units():
    theirs = [n for n in published("combination") if n.table == "1" and n.dataset == "fashion-mnist"]
    ours = [
        Ours("fashion-mnist", "CA (ours)", "", "acc", 0.617, 0.071, 5),
        Ours("fashion-mnist", "SK", "", "acc", 0.9, None, 1),
        Ours("fashion-mnist", "CA (ours)", "", "kl*", 0.5, 0.001, 5),
        Ours("fashion-mnist", "nobody's", "", "acc", 0.5, 0.1, 5),
    ]
    rows = {(r.theirs.method, r.theirs.metric): r for r in compare(ours, theirs)}
    assert len(rows) == 3
    row = rows["CA (ours)", "acc"]
    assert (row.mean, row.std, row.n_seeds) == (pytest.approx(61.7), pytest.approx(7.1), 5)
    assert row.difference == pytest.approx(61.7 - 59.3)
    assert row.beyond_spreads is False
    assert row.theirs.chosen_with_truth
    assert rows["SK", "acc"].beyond_spreads is None
    assert rows["CA (ours)", "kl*"].mean == 0.5
    shown = squeezed(markdown(list(rows.values())))
    assert (
        "| combination 1 | fashion-mnist | CA (ours) | | acc | 61.70 (7.10) | 5 | 59.30 (4.16), chosen with true"
        in shown
    )
    assert "a spread is missing" in shown


def test_shares_of_table_5_are_compared_as_shares():
    theirs = [n for n in published("combination") if n.table == "5" and n.metric == "acc"][:1]
    n = theirs[0]
    (row,) = compare([Ours(n.dataset, n.method, n.setting, n.metric, 0.5, 0.0, 2)], theirs)
    assert row.mean == 0.5
    assert row.difference == pytest.approx(0.5 - n.mean)


def test_each_of_our_variants_stands_beside_the_same_number():
    theirs = [n for n in published("combination") if n.table == "1" and n.metric == "acc"]
    ours = [Ours("fashion-mnist", "SK", "", "acc", mean, 0.1, 5, variant) for mean, variant in [(0.6, "a"), (0.3, "b")]]
    rows = compare(ours, theirs)
    assert [(row.variant, row.mean) for row in rows] == [("a", 60.0), ("b", 30.0)]
    shown = squeezed(markdown(rows))
    assert "| setting | variant | metric |" in shown
    assert "| SK | | a | acc | 60.00" in shown
    widths = {line.count("|") for line in shown.splitlines()}
    assert len(widths) == 1


def test_tables_by_name():
    assert {"combination-1", "combination-supplement-3", "selective-6", "mice-3-left", "entropy-6"} <= set(
        table_names()
    )
    assert len(table("mice-4")) == 9
    with pytest.raises(UnknownNameError, match="combination-1"):
        table("combination-11")


def test_a_table_as_printed():
    shown = squeezed(as_printed(table("mice-3-left")))
    assert shown.splitlines()[0] == "| dataset | method | setting | acc |"
    assert "| cifar100-20 | MiCE (Ours) | ablation=(2) A4 (Single output layer) |" in shown
    assert as_printed(table("combination-1")).splitlines()[-1].startswith("- ")  # notes
