"""report.html: what it says of runs of all kinds, that it is whole, safe and the same again, and the command."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from distclust.consensus import vote
from distclust.contracts import Dataset, MemberOutput, Round
from distclust.errors import RunFolderError
from distclust.methods import METHODS, method_class
from distclust.parameters import declared
from distclust.report import evidence, page, truth
from distclust.report.cards import disputed_points, distinguishing_features, typical_points
from distclust.report.elements import spans
from distclust.report.evidence import Latents, gathered, points_to_look_at
from distclust.results import RunFolder, measured
from distclust.run import main

VOID = {"meta", "img", "br"}


class Parsed(HTMLParser):
    """A page, checked while it is read: every tag is closed, every picture has words, nothing is fetched or run."""

    def __init__(self, html):
        super().__init__()
        self.open, self.ids, self.links, self.pictures, self.words = [], [], [], [], []
        self.feed(html)
        assert not self.open
        assert len(set(self.ids)) == len(self.ids)
        assert {link.removeprefix("#") for link in self.links} <= set(self.ids)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        assert tag not in {"script", "link", "iframe", "object", "form", "base"}
        assert not [name for name in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            assert attrs["src"].startswith(("data:image/png;base64,", "data:image/svg+xml;base64,"))
            assert attrs["alt"].strip()
            self.pictures.append(attrs["alt"])
        else:
            assert "src" not in attrs
        if "href" in attrs:
            assert attrs["href"].startswith("#")
            self.links.append(attrs["href"])
        if "id" in attrs:
            self.ids.append(attrs["id"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def points(kind, n, k, seed=0):
    """Points in k groups, and their groups."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    shape = {"grey": (1, 9, 9), "colour": (3, 60, 40), "windows": (7, 150), "vectors": (6,)}[kind]
    centres = rng.normal(scale=4, size=(k, *shape))
    x = (centres[y] + rng.normal(size=(n, *shape))).astype(np.float32)
    return x, y


def noisy(y, k, n_members, wrong=0.1, seed=0):
    """Labels (M, N) that are those of y but for some."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(y[None], n_members, axis=0)
    return np.where(rng.random(rows.shape) < wrong, rng.integers(k, size=rows.shape), rows)


def outputs(aligned, changes):
    """A member's output for each row of labels; `changes` says which have no vote."""
    made = [MemberOutput(row, None, {"loss": 1 / (m + 1), "effective_clusters": 3.0}) for m, row in enumerate(aligned)]
    for m, (status, cause) in changes.items():
        made[m] = replace(made[m], status=status, cause=cause)
    return tuple(made)


def stored(path, x, aligned, *, y=None, k=3, n_rounds=2, changes=None, method="combination", name="run"):
    """The folder of a run that was interrupted after some rounds."""
    path.mkdir(exist_ok=True)
    np.savez(path / "data.npz", **{"x": x} | ({} if y is None else {"y": y}))
    spec = (
        f"method: {method}\ndataset: {json.dumps(str(path / 'data.npz'))}\nn_clusters: {k}\nn_members: {len(aligned)}\n"
    )
    folder = RunFolder.create(path / name, spec)
    voting = aligned.copy()
    voting[list(changes or {})] = -1
    agreement = vote(voting, n_clusters=k)
    for index in range(n_rounds):
        counts = (int(agreement.agreed.sum()),) * (index + 1)
        folder.store(Round(index, outputs(aligned, changes or {}), agreement, 1.5, counts))
    folder.close()
    return folder


def finish(folder, x, y, k):
    """Write what a run writes at its end, but for its model."""
    last = folder.last_round()
    folder.store_labels(last)
    found = measured(last, Dataset("data", x, y, k), k)
    folder.write("metrics.json", json.dumps(found).encode())


def with_latents(e, seed=0):
    rows = points_to_look_at(e.labelled.labels, e.n_clusters, e.seed)
    at = np.random.default_rng(seed).normal(size=(len(rows), 4)) + 9 * e.labelled.labels[rows, None]
    return replace(e, latents=Latents(rows, at.astype(np.float32), 0), missing={})


@pytest.mark.parametrize("kind", ["grey", "colour", "windows", "vectors"])
def test_every_kind_of_points_makes_a_whole_page(tmp_path, kind):
    x, y = points(kind, 120, 3)
    folder = stored(tmp_path, x, noisy(y, 3, 4), y=y)
    shown = Parsed(page.page(with_latents(gathered(folder))))
    n_points = sum(alt.startswith(("Typical", "Disputed")) for alt in shown.pictures)
    assert n_points == (0 if kind == "vectors" else 2 * 3 * 6)
    assert ("What sets cluster 2 apart" in shown.text) == (kind == "vectors")
    for words in (
        "4 members agree on",
        "Map of all 120 points",
        "Member against member",
        "Coverage and accuracy",
        "How far the",
    ):
        assert words in shown.text + " ".join(shown.pictures), words


def test_the_numbers_are_those_of_the_run(tmp_path):
    x, y = points("grey", 115, 3)
    folder = stored(tmp_path, x, noisy(y, 3, 4), y=y, n_rounds=3)
    finish(folder, x, y, 3)
    e, text = gathered(folder), Parsed(page.page(gathered(folder))).text
    a = folder.last_round().agreement
    sizes = np.bincount(a.labels)
    assert f"agree on {a.agreed.mean():.1%} of 115 points" in text
    assert f"3 clusters of {sizes.min()} to {sizes.max()} points" in text
    assert f"Cluster 1 {sizes[1]} points" in text
    assert f"consensus {e.with_truth['consensus']['acc']:.1%}" in text
    assert f"100.0% {a.agreed.mean():.1%} {(a.labels == y)[a.agreed].mean():.1%}" in text  # of the coverage curve
    assert "not finished" not in text
    assert "There is no map: there is no model yet" in text


def test_classes_change_nothing_but_what_is_said_with_them(tmp_path):
    x, y = points("grey", 90, 3)
    aligned = noisy(y, 3, 3)
    shown = []
    for name, classes in (("with", y), ("without", None)):
        folder = stored(tmp_path / name, x, aligned, y=classes)
        shown.append(page.page(with_latents(gathered(folder))).replace(f"/{name}/", "/"))
    told, silent = (Parsed(html).text for html in shown)
    for words in ("True classes", "accuracy", "right"):
        assert words in told
    assert "True classes" not in silent
    assert "only true classes could tell" in silent
    assert "mean agreement among them" in silent
    parts = [re.split(r'<section aria-labelledby="(\w+)">', html) for html in shown]
    sections = [dict(zip(part[1::2], part[2::2], strict=True)) for part in parts]
    for name in ("clusters", "map", "members", "rounds"):
        assert sections[0][name] == sections[1][name]


@pytest.mark.parametrize(("k", "n"), [(2, 40), (100, 1500)])
def test_few_and_many_clusters(tmp_path, k, n):
    x, y = points("grey", n, k)
    folder = stored(tmp_path, x, noisy(y, k, 3), y=y, k=k)
    html = page.page(with_latents(gathered(folder)))
    shown = Parsed(html)
    assert sum(id.startswith("cluster-") for id in shown.ids) == k
    assert ("Heat map of 100 rows (cluster)" in " ".join(shown.pictures)) == (k == 100)
    assert ("Least agreed on" in shown.text) == (k == 100)
    assert len(html) < 3e6


def test_members_without_a_vote_are_explained(tmp_path):
    x, y = points("vectors", 60, 3)
    changes = {
        1: ("collapsed", "one cluster holds 99.9% of all points"),
        3: ("collapsed", "one cluster holds 99.9% of all points"),
        4: ("lost", "its process died 4 times"),
    }
    text = Parsed(page.page(gathered(stored(tmp_path, x, noisy(y, 3, 6), changes=changes)))).text
    assert "Members 1 and 3 collapsed." in text
    assert "1 and 3: one cluster holds 99.9% of all points" in text
    assert "support=greedy" in text
    assert "Member 4 lost." in text
    assert "pool.retries" in text
    assert "All 3 members agree" in text


def test_a_run_without_any_vote_says_so(tmp_path):
    x, y = points("vectors", 60, 3)
    changes = dict.fromkeys(range(2), ("abstained", "no level of the tree gives 3 clusters"))
    folder = stored(tmp_path, x, noisy(y, 3, 2), y=y, changes=changes, method="selective")
    text = Parsed(page.page(gathered(folder))).text
    assert "No member has a vote, so no point has a label" in text
    assert "labelling=umap-gmm" in text
    assert "There is no confusion matrix" in text


def test_a_single_member_claims_no_agreement(tmp_path):
    x, y = points("vectors", 60, 3)
    text = Parsed(page.page(gathered(stored(tmp_path, x, noisy(y, 3, 1), n_rounds=1)))).text
    assert "nothing says how far they can be trusted" in text
    assert "give more members" in text
    assert "Member against member" not in text


def test_strangers_names_stay_text(tmp_path):
    evil = '"><script>alert(1)<img src=x onerror=alert(2)>{{ 7 * 7 }}'
    x, y = points("vectors", 60, 3)
    changes = {0: ("lost", f"{evil} <b>bold</b>")}
    folder = stored(tmp_path / "a&<i>b", x, noisy(y, 3, 3), y=y, changes=changes, name=evil)
    data = Dataset(evil, x, y, 3)
    object.__setattr__(data, "feature_names", [f"<u>{d}</u>{evil}" for d in range(6)])
    html = page.page(gathered(folder, data))
    shown = Parsed(html)
    assert evil in shown.text
    assert "<b>bold</b>" in shown.text
    assert "<u>" in shown.text
    assert "default-src 'none'" in html
    assert "http" not in re.sub(r"http-equiv", "", html)


def test_the_same_again_are_the_same_bytes(tmp_path):
    x, y = points("windows", 80, 3)
    folder = stored(tmp_path, x, noisy(y, 3, 3), y=y)
    assert page.page(with_latents(gathered(folder))) == page.page(with_latents(gathered(folder)))
    assert str(tmp_path) not in page.page(gathered(folder)).replace(str(tmp_path / "data.npz"), "")


def test_what_is_missing_is_said(tmp_path):
    x, y = points("grey", 60, 3)
    folder = stored(tmp_path, x, noisy(y, 3, 3), y=y)
    finish(folder, x, y, 3)
    np.savez(tmp_path / "data.npz", x=x[:50])
    e = gathered(folder)
    text = Parsed(page.page(e)).text
    assert "The points themselves are not shown: data holds 50 points now, and the run was on 60." in text
    assert f"consensus {e.with_truth['consensus']['acc']:.1%}" in text  # of metrics.json
    (tmp_path / "data.npz").unlink()
    assert "does not exist" in Parsed(page.page(gathered(folder))).text


def test_a_large_run_is_shown_by_a_sample_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "_MAP_POINTS", 50)
    monkeypatch.setattr(evidence, "_LOOKED_AT", 60)
    x, y = points("vectors", 3000, 3)
    e = with_latents(gathered(stored(tmp_path, x, noisy(y, 3, 3))))
    assert 60 <= len(e.latents.rows) <= 120
    text = Parsed(page.page(e)).text
    assert "50 of 3,000 points, drawn by the seed" in text
    assert f"looked for among {len(e.latents.rows)} of 3,000 points, drawn by the seed" in text


def test_names_lead_back_to_what_was_read(tmp_path):
    for kind in ("vectors", "grey"):
        x, y = points(kind, 60, 3)
        e = with_latents(gathered(stored(tmp_path, x, noisy(y, 3, 3), name=kind)))
        names = tuple(f"folder/{row}.png" for row in range(60))
        found = Parsed(page.page(replace(e, data=replace(e.data, names=names))))
        assert ("Below points stand their names" in found.text) == (kind == "vectors")
        assert re.search(r"folder/\d+\.png", found.text if kind == "vectors" else " ".join(found.pictures))


def test_features_bear_the_names_of_the_table(tmp_path):
    x, y = points("vectors", 60, 3)
    e = gathered(stored(tmp_path, x, noisy(y, 3, 3)))
    text = Parsed(page.page(replace(e, data=replace(e.data, feature_names=(*"abcde", "height in cm"))))).text
    assert "height in cm" in text
    assert "feature 5" not in text


def test_the_calibration_is_told_without_labels(tmp_path):
    x, y = points("vectors", 60, 3)
    e = gathered(stored(tmp_path, x, noisy(y, 3, 3)))
    assert "calibrated without labels" not in Parsed(page.page(e)).text
    found = {"temperature": 0.23, "n_points": 60, "uncalibrated": 0.26, "calibrated": 0.85, "observed": 0.85}
    text = Parsed(page.page(replace(e, calibration=found))).text
    assert "give their cluster 26.0% on average, while a member that is left out says the same in 85.0%" in text


@pytest.mark.parametrize("with_classes", [True, False])
def test_where_all_agree_nothing_is_drawn_of_it(tmp_path, with_classes):
    x, y = points("vectors", 60, 3)
    folder = stored(tmp_path, x, noisy(y, 3, 3, wrong=0), y=y if with_classes else None)
    text = Parsed(page.page(gathered(folder))).text
    assert "points kept" not in text
    assert "All voters agree on every point" in text


@pytest.mark.parametrize(
    ("numbers", "words"),
    [([], ""), ([4], "4"), ([1, 2], "1 and 2"), ([3, 5, 52, 53, 54], "3, 5 and 52 to 54"), ([0, 1, 2], "0 to 2")],
)
def test_spans(numbers, words):
    assert (spans(numbers) if numbers else "") == words


def luminance(colour):
    """Relative luminance of "#rrggbb" or "#rgb", by WCAG 2."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * d for d in colour[1:])
    levels = np.array([int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)])
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_can_be_told_from_what_lies_behind_it():
    css = page._TEMPLATE.read_text(encoding="utf-8").split("</style>")[0]
    named = dict(re.findall(r"--(\w+): (#\w+)", css))
    for text in ("ink", "soft", "strong"):
        for behind in ("#fff", named["wash"]):
            assert contrast(named[text], behind) >= 4.5
    shades = dict(re.findall(r"\.(s\d+) \{ background: (#\w+)", css))
    white = re.search(r"((?:\.s\d+,? ?)+)\{ color: #fff", css).group(1)
    assert len(shades) == 11
    for name, behind in shades.items():
        assert contrast("#fff" if f".{name}" in re.findall(r"\.s\d+", white) else named["ink"], behind) >= 4.5


def test_headings_are_nested(tmp_path):
    x, y = points("grey", 60, 3)
    levels = [int(n) for n in re.findall(r"<h(\d)", page.page(gathered(stored(tmp_path, x, noisy(y, 3, 3), y=y))))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@given(arrays(np.int64, st.integers(1, 300), elements=st.integers(-1, 4)), st.integers(0, 3))
def test_of_every_cluster_some_points_are_looked_at(labels, seed):
    rows = points_to_look_at(labels, 5, seed)
    assert (np.diff(rows) > 0).all()
    for k in range(5):
        assert (labels[rows] == k).sum() >= min(20, (labels == k).sum())


@given(st.integers(0, 50), st.integers(1, 6))
def test_typical_and_disputed_points_against_slow_twins(seed, n_examples):
    rng = np.random.default_rng(seed)
    labels, share = rng.integers(-1, 3, 40), rng.choice([0.4, 0.6, 1.0], 40)
    space = rng.normal(size=(40, 2))
    typical = typical_points(space, labels, share, 4, n_examples)
    disputed = disputed_points(labels, share, 4, n_examples, seed)
    for k in range(4):
        inside = [i for i in range(40) if labels[i] == k]
        centre = np.mean(space[inside], axis=0) if inside else 0
        expected = sorted(inside, key=lambda i: (-share[i], np.linalg.norm(space[i] - centre)))
        assert typical[k].tolist() == expected[:n_examples]
        doubtful = sorted(share[i] for i in inside if share[i] < 1)
        assert [share[i] for i in disputed[k]] == doubtful[:n_examples]
        assert set(disputed[k]) <= set(inside)


def test_the_features_that_set_a_cluster_apart_against_a_slow_twin(monkeypatch):
    monkeypatch.setattr("distclust.report.cards._BLOCK", 7)
    rng = np.random.default_rng(0)
    x, labels = rng.normal(3, 2, (50, 8)).astype(np.float32), rng.integers(-1, 3, 50)
    x[:, 4] = 1.5  # does not vary
    found = distinguishing_features(x, labels, 3, list("abcdefgh"))
    for k in range(3):
        apart = {
            name: (x[labels == k, d].mean() - x[:, d].mean()) / x[:, d].std()
            for d, name in enumerate("abcdefgh")
            if name != "e"
        }
        expected = sorted(apart, key=lambda name: -abs(apart[name]))[:5]
        assert [feature.name for feature in found[k]] == expected
        assert [feature.difference for feature in found[k]] == pytest.approx([apart[n] for n in expected], rel=1e-4)


def test_published_numbers_stand_beside_those_of_the_same_method_and_data():
    from distclust.spec import read

    def names(*words):
        spec = read(None, words[1:], words[0])
        return {(n.method, n.metric) for n in truth.printed_numbers(spec, dict(spec.parameters).get)}

    assert names("selective", "dataset=usps", "labelling=umap-gmm") == {("SPC-GMM", "acc"), ("SPC-GMM", "nmi")}
    assert ("SK", "ari") in names("combination", "dataset=cifar10", "support=sinkhorn")
    assert names("combination", "dataset=cifar10", "support=exact") == set()
    assert ("MiCE (Ours)", "acc") in names("mice", "dataset=stl10")
    assert names("moco", "dataset=digits") == set()
    table = truth._beside(
        truth.printed_numbers(read(None, ["dataset=usps"], "selective"), lambda _: "umap-gmm"),
        {"acc": 0.5, "nmi": 0.5, "ari": 0.5},
    )
    assert table.rows[0][3] == "50.0"


def test_every_method_has_its_names_in_tables_and_cures():
    assert set(truth._PRINTED) == set(METHODS)
    for method, (_, name, values) in truth._PRINTED.items():
        known = declared(method_class(method))
        assert name is None or name in known
        if name is not None:
            assert all(f"'{value}'" in known[name].allowed for value in values)
    for (_, method), cure in page.WHAT_TO_TRY.items():
        for name in re.findall(r"(\w+)=|\((\w+)\)", cure):
            assert "".join(name) in declared(method_class(method)), name


def test_a_run_ends_with_its_report_and_the_command_makes_it_again(tmp_path, capsys):
    words = ["combination", "dataset=digits", "dataset.n_samples=200", "pool.kind=local", "n_epochs=2", "n_rounds=2"]
    assert main([*words, "n_members=2", "--out", str(tmp_path / "r")]) == 0
    report = tmp_path / "r" / "report.html"
    assert f"report:      {report}" in capsys.readouterr().out
    first = report.read_bytes()
    shown = Parsed(first.decode())
    assert "Map of all 200 points" in " ".join(shown.pictures)
    assert "combination with 2 members on digits: 200 points of 1 x 8 x 8" in shown.text
    report.unlink()
    assert main(["report", str(tmp_path / "r")]) == 0
    assert f"report: {report}" in capsys.readouterr().out
    assert report.read_bytes() == first


def test_a_run_does_not_fail_with_its_report(tmp_path, capsys, monkeypatch):
    def broken(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(page, "page", broken)
    words = ["combination", "dataset=blobs", "pool.kind=local", "n_epochs=1", "n_rounds=1", "n_members=1"]
    assert main([*words, "--out", str(tmp_path / "r")]) == 0
    said = capsys.readouterr().err
    assert "the run is finished, but for its report (no room)" in said
    assert f"python -m distclust.run report {tmp_path / 'r'}" in said


def test_the_command_refuses_what_is_no_run(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert main(["report"]) == 2
    assert "give the folder of a run" in capsys.readouterr().err
    assert main(["report", "--help"]) == 0
    assert "finished or interrupted" in capsys.readouterr().out
    RunFolder.create(tmp_path / "new", "method: combination\ndataset: digits\n")
    with pytest.raises(RunFolderError, match="no finished round yet"):
        gathered(RunFolder.open(tmp_path / "new"))
