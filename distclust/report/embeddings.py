"""Embeddings in pictures: python -m distclust.report.embeddings [METHOD] [key=value ...] [--rounds N ...] [--run DIR].

What Figures 2, 3, 4 and 5 of Tsai, Li & Zhu, *MiCE: Mixture of Contrastive Experts for Unsupervised Image Clustering*,
ICLR 2021, show of MiCE, of any method on any data.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from distclust import spec as specification
from distclust.command import Parser, exit_code, typed, whole_number
from distclust.contracts import Array, Dataset, Labels, MemberOutput, Pool, State
from distclust.errors import DataError, InputError, RunError, RunFolderError, UnknownNameError
from distclust.metrics import accuracy, effective_clusters
from distclust.report.folder import new_folder
from distclust.report.pictures import BarChart, Bars, Cloud, bar_charts, clouds
from distclust.seeding import generator, integer
from distclust.spec import Spec

if TYPE_CHECKING:
    from distclust.distributed.checkpoint import LocalFolder
    from distclust.methods.base import EnsembleClusterer

WAYS = {"tsne": "t-SNE", "umap": "UMAP"}
N_BINS = 10  # of the histogram of posteriors, as in the paper

_PERPLEXITY = 200  # of t-SNE, as in the paper, which draws all points
_N_NEIGHBORS = 15  # of UMAP
_FEWEST_POINTS = 10
_TITLE_WIDTH = 100  # characters

_HELP = """\
Draw what a network makes of the data: its embeddings by cluster and by true class, its posteriors, its clusters' sizes.

Either train as `python -m distclust.run METHOD key=value ...` does, in this process on one thread, and draw the first
member after some of the rounds; of the pool's options only pool.device counts. Or draw a finished run with --run.
The folder gets clusters.png, classes.png (if the data has classes), posteriors.png, and figures.json with the numbers.
"""
_EXAMPLES = """\
examples:
  python -m distclust.report.embeddings mice dataset=digits --rounds 1 5 10
  python -m distclust.report.embeddings --config tune_configs/mice-figures-2-5.yaml --by umap
  python -m distclust.report.embeddings --run runs/my-run
"""


# What is seen of a member, without classes


class Seen(NamedTuple):
    """A member after a round."""

    round: int | None  # 1, 2, ...; None = not known
    epoch: int | None  # epochs that are done; None = not known
    remark: str  # why it has no vote; "" = it has
    latents: Array  # (n, D) of the points to draw
    labels: Labels  # (N,) the member's own, -1 = none
    counts: Labels | None  # (10,) posterior values, N K together, by tenth; None = it has no posterior yet

    @property
    def when(self) -> str:
        """The round and the epoch in words."""
        if self.round is None:
            return "end of training"
        return f"round {self.round}" + ("" if self.epoch is None else f", epoch {self.epoch:,}")


class Course(NamedTuple):
    """What is seen of a member in the course of its training."""

    spec: Spec
    data: Dataset
    n_clusters: int
    seed: int
    member: int  # its index
    rows: Labels  # (n,) the points to draw
    seen: Sequence[Seen]  # by round


class Subject(NamedTuple):
    """What to look at: a method, its data, and the points to draw."""

    method: EnsembleClusterer
    x: Array  # (N, ...)
    rows: Labels  # (n,)
    device: str


def chosen_points(n_samples: int, n_points: int, seed: int) -> Labels:
    """Return the rows of the points to draw, ascending; all of them where there are no more than `n_points`."""
    return np.sort(generator(seed, "points of a picture").permutation(n_samples)[:n_points])


def default_rounds(n_rounds: int) -> tuple[int, ...]:
    """Return the first, the middle and the last of the rounds 1 .. n_rounds."""
    return tuple(sorted({1, (n_rounds + 1) // 2, n_rounds}))


def epochs_done(method: EnsembleClusterer, x: Array, round: int) -> int | None:
    """Return the number of epochs that are done after the rounds 1 .. round; None where the method does not say."""
    from distclust.methods.base import epochs_of_round

    total: Callable[..., int] | None = getattr(method, "total_epochs", None)
    if total is None:
        return None
    known = {"shape": tuple(x.shape[1:]), "n_samples": len(x)}
    n_epochs = total(*(known[name] for name in inspect.signature(total).parameters))
    return epochs_of_round(n_epochs, method.n_rounds, round - 1).stop


def posterior_counts(posterior: Array) -> Labels:
    """Return how many values of a posterior (N, K) lie in each tenth of 0 .. 1, (10,); 1 is in the last."""
    return np.histogram(posterior.clip(0, 1), N_BINS, (0, 1))[0]


def _look(subject: Subject, index: int, state: State, labels: Labels | None) -> Seen:
    """Return what is seen of a member, without its round.

    Args:
        subject: its method and data.
        index: of the member.
        state: what its `state_dict` gave.
        labels: (N,) its own; None = those of its posterior.
    """
    from distclust.distributed.pool import threads
    from distclust.methods.base import in_blocks, revived

    method, x = subject.method, subject.x
    with threads(1):
        member: Any = revived(method.member(tuple(x.shape[1:]), index, subject.device), state)
        latents = in_blocks(member.transform, x[subject.rows])
        try:
            posterior = in_blocks(member.predict_proba, x)
        except RunError:  # selective pseudo-labels before their classifiers saw a target
            if labels is None:
                raise
            posterior = None
    if not np.isfinite(latents).all():
        raise RunError("the embeddings are not all finite numbers, so they cannot be drawn; lower learning_rate.")
    if labels is None:
        assert posterior is not None
        labels = posterior.argmax(1)
    return Seen(None, None, "", latents, labels, None if posterior is None else posterior_counts(posterior))


# Where a member comes from: it is trained, or lies in a run's folder


def trained(spec: Spec, rounds: Sequence[int], n_points: int) -> Course:
    """Train, and look at the first member after some of the rounds.

    Where members do not learn from one another, it is trained alone.

    Args:
        spec: what to train on what; of its pool, the device alone counts.
        rounds: counted from 1; none = the first, the middle and the last.
        n_points: how many points to draw, at most.

    Raises:
        InputError: method, parameters, data or rounds cannot be used.
        RunError: the member was lost.
    """
    from distclust.data import check_x
    from distclust.distributed.pool import LocalPool, chosen_device

    spec.check()
    data = spec.load()
    x = check_x(data.x, data.name)
    method = spec.estimator(data).checked(x)
    if not method.trains_on_agreement:
        method.set_params(n_members=1)
    n_rounds, seed = method.n_rounds, method.random_state
    chosen = _checked_rounds(rounds, n_rounds) or default_rounds(n_rounds)
    rows = chosen_points(len(x), n_points, seed)
    device = chosen_device(spec.pool.device)
    with LocalPool(device=device) as pool:
        seen = list(_looks(Subject(method, x, rows, device), pool, chosen))
    return Course(spec, data, method.n_clusters, seed, 0, rows, seen)


def _looks(subject: Subject, pool: Pool, chosen: Sequence[int]) -> Iterator[Seen]:
    """Train up to the last chosen round and yield what is seen after each; after the last round where it ends early."""
    from distclust.distributed import rounds

    method, last, looked = subject.method, None, 0
    for last in rounds(method, subject.x, pool):
        done, output = last.index + 1, last.outputs[0]
        if output.status == "lost":
            raise RunError(f"member 0, which is drawn, was lost in round {done}: {output.cause}")
        print(f"round {done}/{method.n_rounds}  {last.seconds:.1f} s", flush=True)
        if done in chosen or (done > looked and method.finished(last)):
            state = pool.states()[0]
            assert state is not None
            seen = _look(subject, 0, state, output.labels)
            yield seen._replace(round=done, epoch=epochs_done(method, subject.x, done), remark=_remark(output))
            looked = done
        if done == chosen[-1]:
            return
    assert last is not None
    print(f"training ended after round {last.index + 1}: what is chosen beyond is not drawn")


def finished_run(path: str | Path, words: Sequence[str], n_points: int) -> Course:
    """Look at the first member of a finished run that was not lost.

    Args:
        path: of the run's folder.
        words: "pool.device=value", where its own does not suit.
        n_points: how many points to draw, at most.

    Raises:
        RunFolderError: there is no such run, or it is not finished.
        DataError: its data cannot be had, or is not what it was.
    """
    from distclust.data import check_x
    from distclust.distributed.pool import chosen_device
    from distclust.methods.saved import load_model
    from distclust.results import RunFolder

    folder = RunFolder.open(path)
    if not (folder.path / "model").is_dir():
        raise RunFolderError(
            f"{folder.path} has no model yet, because its run is not finished; finish it with "
            f"`{typed(['--resume', str(folder.path)])}`, then draw it."
        )
    spec = specification.with_pool(specification.read(folder.spec), words)
    method = load_model(folder.path / "model")
    index, member = next((m, member) for m, member in enumerate(method.members_) if member is not None)
    data = spec.load()
    x = check_x(data.x, data.name)
    last = folder.last_round()
    output = None if last is None else last.outputs[index]
    _check_same_data(method, x, None if output is None else len(output.labels), spec.dataset)
    subject = Subject(method, x, chosen_points(len(x), n_points, method.random_state), chosen_device(spec.pool.device))
    seen = _look(subject, index, member.state_dict(), None if output is None else output.labels)
    if last is not None and output is not None:
        done = last.index + 1
        seen = seen._replace(round=done, epoch=epochs_done(method, x, done), remark=_remark(output))
    return Course(spec, data, method.n_clusters, method.random_state, index, subject.rows, [seen])


def _check_same_data(method: EnsembleClusterer, x: Array, n_samples: int | None, name: str) -> None:
    if tuple(x.shape[1:]) != method.shape_ or len(x) != (n_samples or len(x)):
        run_on = f"{'' if n_samples is None else f'{n_samples:,} '}points of {' x '.join(map(str, method.shape_))}"
        raise DataError(
            f"{name} holds {len(x):,} points of {' x '.join(map(str, x.shape[1:]))} now, and the run was on {run_on}; "
            f"put its data back, or run it again."
        )


def _checked_rounds(given: Sequence[int], n_rounds: int) -> tuple[int, ...]:
    beyond = [str(n) for n in given if n > n_rounds]
    if beyond:
        raise InputError(
            f"--rounds {' '.join(beyond)} cannot be used: training has {n_rounds} rounds, so give numbers from 1 to "
            f"{n_rounds}; n_rounds={max(given)} makes it look more often."
        )
    return tuple(sorted(set(given)))


def _remark(output: MemberOutput) -> str:
    return "" if output.status == "voting" else f"{output.status}: {output.cause}"


# The pictures and their numbers


class Drawn(NamedTuple):
    """Files by name, and what to say of them."""

    files: Mapping[str, bytes]
    lines: Sequence[str]


def perplexity(n_points: int) -> float:
    """Return the perplexity of t-SNE: 200 as in the paper from 8,000 points on, below n / 40, but 30 if it can.

    At 200 and 2,000 points a cluster of ten would see itself alone, and shrink to a dot.
    """
    return min(_PERPLEXITY, max(n_points / 40, min(30, n_points / 4)))


def flat(latents: Array, by: str, seed: int, n_steps: int = 1000) -> Array:
    """Lay latents out in the plane.

    Args:
        latents: (n, D) finite numbers, n >= 2.
        by: "tsne", at the `perplexity` for so many points, or "umap".
        seed: the run's.
        n_steps: of t-SNE, >= 250.

    Returns:
        (n, 2); all at the origin where all latents are the same.
    """
    if not np.ptp(latents, axis=0).any():
        return np.zeros((len(latents), 2), np.float32)
    if by == "umap":
        from distclust.labelling import embed

        return embed(latents, integer(seed, "UMAP of a picture"), _N_NEIGHBORS)
    from sklearn.manifold import TSNE

    apart = latents - latents.mean(0, dtype=np.float64)
    apart /= np.abs(apart).max()  # t-SNE does not ask for the scale, and squares of it stay in range
    start = "pca" if min(latents.shape) >= 2 else "random"
    seed = integer(seed, "t-SNE")
    layout = TSNE(2, perplexity=perplexity(len(latents)), init=start, random_state=seed, max_iter=n_steps)
    return np.asarray(layout.fit_transform(apart))


class Layout(NamedTuple):
    """Where the points to draw lie."""

    by: str  # "tsne" or "umap"
    planes: Sequence[Array]  # (n, 2) a round


class Colouring(NamedTuple):
    """What the points to draw are coloured by."""

    group: str  # what it is called
    n_groups: int
    labels: Sequence[Labels]  # (N,) a round
    titles: Sequence[str]  # of the panels


def drawn(course: Course, by: str) -> Drawn:
    """Return the pictures of a course, and the numbers behind them; the true classes are read here alone.

    Args:
        course: of one round at least.
        by: "tsne" or "umap".
    """
    from distclust.distributed.pool import threads

    with threads(1):  # the numbers are then the same on any number of CPUs
        layout = Layout(by, [flat(seen.latents, by, course.seed).round(3) for seen in course.seen])
    labels = _named_as_the_last(course)
    when = [seen.when for seen in course.seen]
    found = _numbers(course, layout, labels)
    files = {
        "clusters.png": _clouds(course, layout, Colouring("cluster", course.n_clusters, labels, when)),
        "posteriors.png": _posteriors(course, labels[-1]),
    }
    lines = [_sentence(panel, len(course.data.x)) for panel in found["panels"]]
    y = course.data.y
    if y is not None and (y >= 0).any():
        right = [float(accuracy(own, y)) for own in labels]
        told = [f"accuracy (true classes) {share:.1%}" for share in right]
        titles = ["\n".join(pair) for pair in zip(when, told, strict=True)]
        colouring = Colouring("true class", int(y.max()) + 1, [y] * len(labels), titles)
        files["classes.png"] = _clouds(course, layout, colouring)
        found["with_truth"] = {"accuracy": right}
        lines = ["; ".join(pair) for pair in zip(lines, told, strict=True)]
    files["figures.json"] = (json.dumps(found, indent=1, allow_nan=False) + "\n").encode()
    return Drawn(files, [f"{words}: {line}" for words, line in zip(when, lines, strict=True)])


def _named_as_the_last(course: Course) -> list[Labels]:
    """Return all labels (N,), with the names of the last round's clusters: so a cluster keeps its colour."""
    from distclust.consensus import rename

    last = course.seen[-1].labels
    return [*(rename(seen.labels, last, course.n_clusters) for seen in course.seen[:-1]), last]


def _clouds(course: Course, layout: Layout, colouring: Colouring) -> bytes:
    """Return Figure 4 (coloured by cluster) or Figure 5 (by true class), a panel a round."""
    n_samples, n_points = len(course.data.x), len(course.rows)
    points = f"{n_points:,} points" if n_points == n_samples else f"{n_points:,} of {n_samples:,} points"
    panels = [
        Cloud("\n".join(filter(None, (title, seen.remark.partition(":")[0]))), plane, labels[course.rows])
        for title, seen, plane, labels in zip(
            colouring.titles, course.seen, layout.planes, colouring.labels, strict=True
        )
    ]
    title = f"{_subject(course)}: embeddings of {points} by {WAYS[layout.by]}, coloured by {colouring.group}"
    return clouds(textwrap.fill(title, _TITLE_WIDTH), panels, colouring.n_groups, colouring.group)


def _posteriors(course: Course, labels: Labels) -> bytes:
    """Return Figure 3: the posterior at the first and the last round, and the clusters' sizes (labels (N,)) at that."""
    first, last, k = course.seen[0], course.seen[-1], course.n_clusters
    ends = [first, last] if len(course.seen) > 1 else [last]
    shares = [(seen.when, 100 * seen.counts / seen.counts.sum()) for seen in ends if seen.counts is not None]
    missing = " and ".join(seen.when for seen in ends if seen.counts is None)
    posterior = BarChart(
        "posterior of all points" + (f" (none yet after {missing})" if missing else ""),
        "probability of a cluster",
        "share of all values in %",
        [f"{edge / N_BINS:g}" for edge in range(N_BINS + 1)],
        [Bars(when, values, [colour]) for colour, (when, values) in enumerate(shares)],
    )
    sizes = BarChart(
        f"sizes of the clusters, {last.when}",
        "cluster",
        "points",
        [str(cluster) for cluster in range(k)],
        [Bars("", _sizes(labels, k), range(k))],
        ("all alike", len(labels) / k),
    )
    return bar_charts(f"{_subject(course)}: how sure and how even the clusters are", [posterior, sizes])


def _numbers(course: Course, layout: Layout, labels: Sequence[Labels]) -> dict[str, Any]:
    panels = [
        {
            "round": seen.round,
            "epoch": seen.epoch,
            "remark": seen.remark,
            "sizes": _sizes(own, course.n_clusters).tolist(),
            "without_label": int((own < 0).sum()),
            "effective_clusters": float(effective_clusters(own)),
            "posterior_counts": None if seen.counts is None else seen.counts.tolist(),
            "labels": own[course.rows].tolist(),
            "positions": [[float(f"{value:.3f}") for value in at] for at in plane],
        }
        for seen, plane, own in zip(course.seen, layout.planes, labels, strict=True)
    ]
    return {
        "parameters": {
            "spec": course.spec.to_yaml(),
            "n_samples": len(course.data.x),
            "n_clusters": course.n_clusters,
            "member": course.member,
            "by": layout.by,
            "perplexity": perplexity(len(course.rows)) if layout.by == "tsne" else None,
        },
        "points": course.rows.tolist(),
        "panels": panels,
        "with_truth": None,
    }


def _sizes(labels: Labels, n_clusters: int) -> Labels:
    return np.bincount(labels[labels >= 0], minlength=n_clusters)


def _sentence(panel: Mapping[str, Any], n_samples: int) -> str:
    """Return what a panel's numbers say."""
    counts, sizes = panel["posterior_counts"], panel["sizes"]
    parts = [
        f"{panel['effective_clusters']:.2f} clusters in effect",
        f"sizes {min(sizes):,} to {max(sizes):,}",
        "no posterior yet" if counts is None else f"{counts[0] / sum(counts):.1%} of posterior values below 0.1",
    ]
    if panel["without_label"]:
        parts.append(f"{panel['without_label']:,} of {n_samples:,} points without a label")
    return ", ".join(parts) + (f" ({panel['remark']})" if panel["remark"] else "")


def _subject(course: Course) -> str:
    member = f", member {course.member}" if course.member else ""
    return f"{course.spec.method} on {course.data.name}{member}"


# The command


class Arguments(NamedTuple):
    """What the command was asked for."""

    spec: Spec | None  # what to train; None = draw a run
    run: str  # its folder
    pool: tuple[str, ...]  # "pool.device=value", for the run
    rounds: tuple[int, ...]  # from 1 on; none = by default
    by: str
    points: int
    out: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 failed, 2 unusable input, 130 interrupted."""
    words = sys.argv[1:] if argv is None else list(argv)
    return exit_code(lambda: _command(words), lambda: "interrupted; nothing is drawn, as pictures come at the end.")


def _command(words: list[str]) -> int:
    given = _parser().parse_intermixed_args(words)
    if given.help:
        print(_parser().format_help())
    else:
        _draw(_checked(given))
    return 0


def _parser() -> argparse.ArgumentParser:
    prog = "python -m distclust.report.embeddings"
    parser = Parser(
        prog=prog,
        usage=f"{prog} [METHOD] [key=value ...] [--config FILE] [--rounds N ...] [--by tsne|umap] [--out DIR]\n"
        f"       {prog} --run DIR [--by tsne|umap] [--out DIR]",
        description=_HELP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar="[METHOD] [key=value ...]", help=argparse.SUPPRESS)
    parser.add_argument("--config", metavar="FILE", help="YAML file with the same keys; key=value pairs override it")
    parser.add_argument("--run", metavar="DIR", help="draw the finished run that lies there; nothing is trained")
    parser.add_argument(
        "--rounds", nargs="+", metavar="N", default=[], help="rounds to draw after (first, middle, last)"
    )
    parser.add_argument("--by", metavar="NAME", default="tsne", help="how to lay the embeddings out: tsne or umap")
    parser.add_argument("--points", metavar="N", default="2000", help="how many points to draw at most (2000)")
    parser.add_argument("--out", metavar="DIR", help="a new or empty folder (default: runs/embeddings-...-DATE)")
    parser.add_argument("-h", "--help", action="store_true", help="show this and end")
    return parser


def _checked(given: argparse.Namespace) -> Arguments:
    """Return the arguments, checked as far as they can be without the data."""
    if given.by not in WAYS:
        raise UnknownNameError("way to lay embeddings out", given.by, WAYS)
    named = bool(given.words) and "=" not in given.words[0]
    method, pairs = (given.words[0] if named else None), given.words[named:]
    for pair in pairs:
        if pair.startswith("pool.") and not pair.startswith("pool.device="):
            raise InputError(f"{pair} cannot be used: training runs in this process. Give pool.device=... or nothing.")
    spec = None
    if given.run is None:
        spec = specification.read(given.config, pairs, method)
    elif method or given.config or given.rounds or any(not pair.startswith("pool.") for pair in pairs):
        raise InputError("with --run only pool.device=... may be given: a finished run is drawn as it ended.")
    rounds = tuple(whole_number("--rounds", word, 1) for word in given.rounds)
    points = whole_number("--points", given.points, _FEWEST_POINTS)
    named_after = Path(given.run).resolve().name if spec is None else f"{spec.method}-{Path(spec.dataset).stem}"
    default = Path("runs") / f"embeddings-{named_after}-{time.strftime('%Y%m%d-%H%M%S')}"
    out = default if given.out is None else Path(given.out)
    return Arguments(spec, given.run or "", tuple(pairs), rounds, given.by, points, out)


def _draw(wanted: Arguments) -> None:
    """Look, draw, and write the pictures into their folder, all or none."""
    with new_folder(wanted.out) as folder:
        if wanted.spec is None:
            course = finished_run(wanted.run, wanted.pool, wanted.points)
        else:
            course = trained(wanted.spec, wanted.rounds, wanted.points)
        found = drawn(course, wanted.by)
        _write(folder, found.files)
    for line in found.lines:
        print(line)
    print(f"pictures and numbers: {', '.join(str(wanted.out / name) for name in sorted(found.files))}")


def _write(folder: LocalFolder, files: Mapping[str, bytes]) -> None:
    try:
        for name, data in files.items():
            folder.write(name, data)
    except BaseException:
        for name in files:
            folder.delete(name)
        raise


if __name__ == "__main__":
    sys.exit(main())
