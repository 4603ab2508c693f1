"""The command: distclust [METHOD] [key=value ...] [--config FILE] [--out DIR] [--resume DIR]."""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distclust.command import INTERRUPTED, Parser, existing, exit_code, interruptible, only, program, subcommand, typed
from distclust.errors import DataWarning, InputError, UnknownNameError, as_word, key_of, nearest, on_command_line
from distclust.predict import predict_command
from distclust.sweep.command import COMMANDS as SWEEP_COMMANDS

if TYPE_CHECKING:
    from rich.console import Console

    from distclust.contracts import Dataset, Event, Pool, Round
    from distclust.methods.base import EnsembleClusterer
    from distclust.results import RunFolder
    from distclust.spec import Spec

_HELP = """\
Train an ensemble of deep clusterers and write its consensus, with no argument on scikit-learn's digits.

METHOD is one of:
  selective       selective pseudo-label clustering: train on what the ensemble agrees on (default)
  combination     combination assignment and its rival partition supports
  entropy         discriminative entropy clustering and its rivals
  mice            mixture of contrastive experts, for images
  moco            momentum contrast and spherical k-means, its baseline, for images
`{program} METHOD --help` lists its parameters.

Other commands, each with a --help of its own:
  predict MODEL DATA   labels of new points by a model that was kept
  report RUN           report.html of a run, finished or interrupted, made again
  sweep FILE           a study of seeds and parameters on Ray Tune, and its tables
  compare RUN          a sweep's numbers beside a paper's
  table NAME           a paper's table, as published
"""
_KEYS = """\
key=value pairs are the method's parameters (n_members is 5 unless it or a file is given; n_clusters is that of the
data where it is known, else 10), and
  dataset=NAME    digits, blobs, moons, mnist, fashion-mnist, usps, cifar10, cifar100, cifar100-20, stl10, svhn,
                  realdisp; a folder of images; a .csv, .tsv, .parquet, .npy or .npz file
  dataset.OPTION=...   n_samples, split, imbalance, seed, ... of the dataset; size, mode, broken, labels of a folder;
                  columns, exclude, id_column, label_column, missing, categories, header, separator, decimal, encoding,
                  missing_values, ... of a table; window, step, time_column, rate, ... of recordings in tables
  pool.kind=ray|local  where the members run;  pool.cpus_per_member, pool.gpus_per_member, pool.address,
                  pool.num_cpus, pool.dashboard, pool.storage, pool.retries, pool.workers_per_member,
                  pool.autoscaling

examples:
  {program}
  {program} dataset=my.npy n_clusters=8 n_members=10
  {program} dataset=folder/of/images n_clusters=8 dataset.size=64
  {program} combination dataset=usps sigma=50
  {program} --resume runs/my-run
"""

_REPORT = "Make report.html in the folder of a run, finished or interrupted, from what lies there; nothing is trained."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 failed, 2 unusable input, 130 interrupted."""
    words = sys.argv[1:] if argv is None else list(argv)
    return exit_code(lambda: _command(words), lambda: "interrupted before the run began.")


def _command(words: list[str]) -> int:
    if words and words[0] in COMMANDS:
        return COMMANDS[words[0]](words[1:])
    arguments = _parser().parse_intermixed_args(words)
    if arguments.help:
        print(_help(arguments.words))
        return 0
    return _run(arguments, words)


def _report(words: Sequence[str]) -> int:
    parser = subcommand("report", "RUN", _REPORT, "")
    given = parser.parse_args(words)
    if given.help:
        print(parser.format_help())
        return 0
    run = existing(only(given.words, "the folder of a run"), "spec.yaml", "a run folder")
    print(f"distclust: reading {run}, loading torch ...", flush=True)
    from distclust.report.page import write_report
    from distclust.results import RunFolder

    print(f"report: {write_report(RunFolder.open(run))}")
    return 0


COMMANDS = {**SWEEP_COMMANDS, "predict": predict_command, "report": _report}


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=program(),
        usage=f"{program()} [METHOD] [key=value ...] [--config FILE] [--out DIR] [--resume DIR]",
        description=_HELP.replace("{program}", program()),
        epilog=_KEYS.replace("{program}", program()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar="[METHOD] [key=value ...]", help=argparse.SUPPRESS)
    parser.add_argument("--config", metavar="FILE", help="YAML file with the same keys; key=value pairs override it")
    parser.add_argument("--out", metavar="DIR", help="the run's folder (default: runs/METHOD-DATASET-DATE)")
    parser.add_argument("--resume", metavar="DIR", help="continue the run that lies there after its last round")
    parser.add_argument("-h", "--help", action="store_true", help="show this and end")
    return parser


def _help(words: Sequence[str]) -> str:
    if not words or "=" in words[0]:
        return _parser().format_help()
    from distclust.methods import method_parameters

    lines = [f"Parameters of {words[0]}, with their defaults:"]
    for p in method_parameters(words[0]).values():
        lines.append(f"  {p.name}={as_word(p.default)}\n      {p.description}: {p.allowed}")
    return "\n".join(lines)


def _run(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    method, pairs = _method_and_pairs(arguments.words, argv)
    from distclust import spec as specification

    if arguments.resume is None:
        spec = specification.read(arguments.config, pairs, method)
        return _start(spec, arguments.out)
    if method or arguments.config or arguments.out or any(not pair.startswith("pool.") for pair in pairs):
        raise InputError("with --resume only pool.OPTION=... may be given: a run goes on as it was started.")
    return _continue(arguments.resume, pairs)


def _method_and_pairs(words: Sequence[str], argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the method and the key=value pairs.

    Args:
        words: without options.
        argv: everything that was typed.

    Raises:
        InputError: a word is neither, with what can be typed.
    """
    from distclust.methods import METHODS

    method = words[0] if words and words[0] in METHODS else None
    pairs = list(words if method is None else words[1:])
    if bare := [word for word in pairs if "=" not in word]:
        raise _no_pair(bare[0], argv)
    return method, pairs


def _no_pair(word: str, argv: Sequence[str]) -> InputError:
    """Return what to say of a word that is neither a method nor a key=value pair."""
    from distclust.data.catalogue import NAMES, is_data
    from distclust.methods import METHODS, parameter_readings

    def instead(*words: str, last: bool = True) -> str:
        others = list(argv)
        at = others.index(word)
        return typed([*others[:at], *words, *others[at + 1 :]] if last else [*words, *others[:at], *others[at + 1 :]])

    if word in METHODS:
        return InputError(f"{word!r} is a method, and the method comes first. Type:\n  {instead(word, last=False)}")
    if (Path(word) / "spec.yaml").is_file():
        again = f"{typed(['--resume', word])}\n  {typed(['report', word])}"
        return InputError(
            f"{word!r} is no method, but the folder of a run. To continue it, or report on it:\n  {again}"
        )
    if word.endswith((".yaml", ".yml")):
        return InputError(f"{word!r} is no method. Read a YAML file of keys with:\n  {instead('--config', word)}")
    if word in parameter_readings():
        return InputError(f"{word!r} is a parameter, and takes a value: give key=value pairs, as in {word}=VALUE.")
    if is_data(word):
        return InputError(f"{word!r} is no method, but data. Type:\n  {instead(f'dataset={word}')}")
    if (near := nearest(word, [*METHODS, *COMMANDS, *NAMES])) in NAMES:
        return InputError(f"{word!r} is no method. To cluster {near}, type:\n  {instead(f'dataset={near}')}")
    cure = "Data is given as dataset=NAME or dataset=PATH, a parameter as in n_clusters=8."
    return UnknownNameError("method or command", word, [*METHODS, *COMMANDS], cure)


def _start(spec: Spec, out: str | None) -> int:
    spec.check()
    spec.check_data()
    print(f"distclust: {spec.method} on {spec.dataset}, loading torch ...", flush=True)
    spec, data = _with_n_clusters(spec, spec.load())  # what is wrong there is said before torch is loaded
    from distclust.results import RunFolder

    path = Path(out) if out else Path("runs") / _default_name(spec)
    model = spec.estimator(data)
    method, data = _checked(model, data)
    folder = RunFolder.create(path, spec.to_yaml())
    return _drain(spec, data, model, method, folder, None, new=True)


def _with_n_clusters(spec: Spec, data: Dataset) -> tuple[Spec, Dataset]:
    """Return both with a number of clusters to begin with, where neither has one, and a remark that says so."""
    from distclust.methods import method_parameters

    if "n_clusters" in spec.parameters or data.n_clusters is not None:
        return spec, data
    first = method_parameters(spec.method)["n_clusters"].default
    options = [f"{key_of(name)}={as_word(value)}" for name, value in spec.dataset_options.items()]
    remark = (
        f"n_clusters was not given: {first} clusters are a start, not a finding. To look for a number: "
        f"{typed(['sweep', 'tune_configs/choose_k.yaml', f'dataset={spec.dataset}', *options])}"
    )
    given = {**spec.parameters, "n_clusters": first}
    return replace(spec, parameters=given), replace(data, remarks=(*data.remarks, remark))


def _continue(path: str, pairs: Sequence[str]) -> int:
    from distclust.spec import read, with_pool

    existing(path, "spec.yaml", "a run folder")
    from distclust.results import RunFolder

    folder = RunFolder.open(path)
    if folder.finished:
        print(f"distclust: the run in {folder.path} is finished; its labels are in {folder.path / 'labels.parquet'}")
        return 0
    spec = with_pool(read(folder.spec), pairs)
    print(f"distclust: resuming {spec.method} on {spec.dataset}, loading torch ...", flush=True)
    folder.rounds()  # or says why it cannot be read, before anything is done
    data = spec.load()
    model = spec.estimator(data)
    method, data = _checked(model, data)
    return _drain(spec, data, model, method, folder, folder.last_round(), new=False)


def _checked(model: EnsembleClusterer, data: Dataset) -> tuple[EnsembleClusterer, Dataset]:
    """Return the method, fit for the data, and the data with remarks on what of them does not reach the networks."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", DataWarning)
        method = model.checked(_checked_data(data))
    remarks = [one.message.args[0] for one in said if isinstance(one.message, DataWarning)]
    return method, replace(data, remarks=(*data.remarks, *remarks))


def _checked_data(data: Dataset) -> Any:
    from distclust.data import check_x

    return check_x(data.x, data.name)


def _drain(
    spec: Spec,
    data: Dataset,
    model: EnsembleClusterer,
    method: EnsembleClusterer,
    folder: RunFolder,
    resume: Round | None,
    *,
    new: bool,
) -> int:
    """Run round after round, store each, and end with the result; an interrupt leaves a run that can be resumed."""
    from rich.console import Console

    from distclust.distributed import rounds

    console = Console(highlight=False)
    _announce(console, data, method, folder)
    last = resume
    display = _display(console, method, resume)
    pool: Pool | None = None
    begun = last is not None
    try:
        with interruptible():
            try:
                pool = spec.make_pool(folder.members, display.event)
                with display:
                    for last in rounds(method, _checked_data(data), pool, resume=resume):
                        begun = True
                        folder.store(last)
                        display.round(last)
                assert last is not None
                model.adopt(method, data.x, last, pool.states())
                found = folder.finish(model, data)
            finally:
                folder.close()
                if pool is not None:
                    pool.close()
    except (KeyboardInterrupt, SystemExit):
        done = "no round" if last is None else f"{last.index + 1} of {method.n_rounds} rounds"
        print(
            f"\ndistclust: interrupted with {done} finished. Resume with:\n  {typed(['--resume', str(folder.path)])}",
            file=sys.stderr,
        )
        return INTERRUPTED
    except InputError:
        if new and not begun:
            folder.discard()
        raise
    if last.index + 1 < method.n_rounds:
        console.print(f"ended after {last.index + 1} rounds: the number of agreed points grows no more")
    _conclude(console, found, folder, method)
    return _reported(console, folder, data) or (0 if _has_answer(last) else 1)


def _has_answer(last: Round) -> bool:
    """Return whether any member votes and any point has a label."""
    return any(o.status == "voting" for o in last.outputs) and bool((last.agreement.labels >= 0).any())


def _reported(console: Console, folder: RunFolder, data: Dataset) -> int:
    """Write report.html; whatever happens here, the run is finished and its results are stored."""
    from distclust.report.page import write_report

    again = f"make it with\n  {typed(['report', str(folder.path)])}"
    try:
        console.print(f"report:      {write_report(folder, data)}", soft_wrap=True, markup=False)
    except KeyboardInterrupt:
        print(f"\ndistclust: interrupted; the run is finished, but for its report: {again}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        print(f"distclust: the run is finished, but for its report ({error}): {again}", file=sys.stderr)
    return 0


def _default_name(spec: Spec) -> str:
    return f"{spec.method}-{Path(spec.dataset).stem}-{time.strftime('%Y%m%d-%H%M%S')}"


def _announce(console: Console, data: Dataset, method: EnsembleClusterer, folder: RunFolder) -> None:
    shape = " x ".join(str(side) for side in data.x.shape[1:])
    console.print(
        f"{data.name}: {len(data.x):,} points of {shape}, {method.n_clusters} clusters, "
        f"{method.n_members} members, {'up to ' if method.may_end_early else ''}{method.n_rounds} rounds, "
        f"seed {method.random_state}",
        soft_wrap=True,
    )
    for remark in data.remarks:
        console.print(f"{data.name}: {on_command_line(remark)}", soft_wrap=True, markup=False)
    if chosen := method.chosen_scaling(_checked_data(data)):
        console.print(f"scaling: {chosen.name}, {chosen.reason}", soft_wrap=True, markup=False)
    console.print(f"run folder: {folder.path}", soft_wrap=True)


_SILENCE = 10  # seconds without a line after which it is said how far a round is


class _Lines:
    """Progress as plain lines, where the output is no terminal."""

    def __init__(self, console: Console, method: EnsembleClusterer) -> None:
        self.console, self.method = console, method
        self.workers, self.trained, self.start, self.said = 0, 0, time.perf_counter(), time.perf_counter()

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def event(self, event: Event) -> None:
        if event.kind == "connected" and event.cause:
            self._print(f"Ray dashboard: {event.cause}")
        if event.kind == "started":
            self.workers += 1
            self._print(f"worker {self.workers} is ready after {time.perf_counter() - self.start:.1f} s")
        if event.kind in ("restarted", "lost"):
            self._print(f"member {event.member} {event.kind} in round {event.round + 1}: {event.cause}")
        if event.kind == "finished":
            self.trained += 1
            self._progress(event)

    def _progress(self, event: Event) -> None:
        """Say how far a round is, where it takes long."""
        if self.trained < self.method.n_members and time.perf_counter() - self.said > _SILENCE:
            self._print(f"round {event.round + 1}: {self.trained} of {self.method.n_members} members are through")

    def round(self, round: Round) -> None:
        self.trained = 0
        self._print(_round_line(round, self.method))
        for remark in _remarks(round):
            self._print(remark)

    def _print(self, line: str) -> None:
        self.said = time.perf_counter()
        self.console.print(line, soft_wrap=True, markup=False)


class _Bars(_Lines):
    """Progress as one bar a member, on a terminal."""

    def __init__(self, console: Console, method: EnsembleClusterer, first: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        super().__init__(console, method)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self.tasks = [
            self.progress.add_task(f"member {m}", total=method.n_rounds, completed=first, note="waiting")
            for m in range(method.n_members)
        ]
        self.whole = self.progress.add_task("ensemble", total=method.n_rounds, completed=first, note="starting workers")

    def __enter__(self) -> _Bars:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def _progress(self, event: Event) -> None:
        """Say nothing: the bars do."""

    def event(self, event: Event) -> None:
        super().event(event)
        if event.member >= 0:
            done = event.round + 1 if event.kind == "finished" else None
            note = f"{event.kind}: {event.cause}" if event.cause else _scores(event.scores)
            self.progress.update(self.tasks[event.member], completed=done, note=note)

    def round(self, round: Round) -> None:
        self.progress.update(self.whole, completed=round.index + 1, note=_agreed(round).strip())
        for remark in _remarks(round):
            self._print(remark)


def _display(console: Console, method: EnsembleClusterer, last: Round | None) -> _Lines:
    if console.is_terminal:
        return _Bars(console, method, 0 if last is None else last.index + 1)
    return _Lines(console, method)


def _round_line(round: Round, method: EnsembleClusterer) -> str:
    members = "; ".join(
        f"{index}: {_scores(output.scores) if output.status == 'voting' else output.status}"
        for index, output in enumerate(round.outputs)
    )
    return f"round {round.index + 1}/{method.n_rounds}  {round.seconds:.1f} s  {_agreed(round)}members {members}"


def _agreed(round: Round) -> str:
    """Return how many points are agreed on; "" with a single member, who agrees with nobody."""
    return f"agreed {round.agreement.agreed.mean():.1%}  " if len(round.outputs) > 1 else ""


def _remarks(round: Round) -> list[str]:
    """Return what has to be said of a round: who has no vote and why."""
    here = f"round {round.index + 1}"
    members = [
        f"{here}: member {index} has no vote, {output.status}: {output.cause}"
        for index, output in enumerate(round.outputs)
        if output.status in ("abstained", "collapsed")
    ]
    return members + [f"{here}: {remark}" for remark in round.agreement.remarks]


_SHORT = {"loss": "loss {:.3g}", "cross_entropy": "cross-entropy {:.3g}", "reconstruction": "reconstruction {:.3g}"}


def _scores(scores: Any) -> str:
    losses = [form.format(scores[name]) for name, form in _SHORT.items() if name in scores]
    clusters = [f"{scores['effective_clusters']:.1f} clusters"] if "effective_clusters" in scores else []
    return ", ".join(losses + clusters)


def _conclude(console: Console, found: dict[str, Any], folder: RunFolder, method: EnsembleClusterer) -> None:
    """Print the verdict, the table of members, consensus and baselines, and what has to be said of them."""
    from rich.table import Table

    free, truth = found["label_free"], found["with_truth"]
    console.print(found["verdict"]["line"], soft_wrap=True, markup=False, style="bold")
    table = Table(title="result")
    table.add_column("", no_wrap=True)
    for name in ("clusters in effect", "stability", *(("accuracy", "NMI", "ARI") if truth else ())):
        table.add_column(name, justify="right")
    for index, member in enumerate(free["members"]):
        row = truth["members"][index] if truth else None
        status = "" if member["status"] == "voting" else f", {member['status']}"
        effective = _two(member.get("effective_clusters"))
        table.add_row(f"member {index}{status}", effective, "", *_percentages(row, truth))
    table.add_section()
    if truth:
        table.add_row("members' mean", "", "", *_percentages(truth["members_mean"], truth))
    row = truth["consensus"] if truth else None
    table.add_row("consensus", _two(free["effective_clusters"]), _two(free["stability"]), *_percentages(row, truth))
    if truth and len(free["members"]) > 1:
        table.add_row(f"agreed points ({free['agreed']:.1%})", "", "", *_percentages(truth["agreed_points"], truth))
    table.add_section()
    for index, one in enumerate(found["baselines"]):
        row = truth["baselines"][index] if truth else None
        table.add_row(one["name"], _two(one["effective_clusters"]), _two(one["stability"]), *_percentages(row, truth))
    console.print(table)
    _explain(console, found, folder, method)


def _explain(console: Console, found: dict[str, Any], folder: RunFolder, method: EnsembleClusterer) -> None:
    free = found["label_free"]
    say: Callable[[str], None] = lambda line: console.print(line, soft_wrap=True, markup=False)  # noqa: E731
    for index, member in enumerate(free["members"]):
        if member["status"] != "voting":
            say(f"member {index} has no vote: {member['status']}, {member['cause']}")
    if not free["voters"]:
        say("no member has a vote, so no point has a label; the causes above say what to try")
    elif len(free["members"]) == 1:
        say("one member has no agreement to report: give n_members=5 for an ensemble")
    else:
        say(_agreement(found, method))
    if found["baselines"] and free["voters"]:
        agree = " and ".join(f"{one['name']} {one['agreement_with_consensus']:.2f}" for one in found["baselines"])
        say(
            f"baselines on {found['baselines'][0]['n_points']:,} points, means of three seeds; adjusted Rand index "
            f"with the consensus: {agree}"
        )
    if found["with_truth"]:
        say("accuracy, NMI and ARI compare with the true classes, which no training step has seen")
        if reliability := found["with_truth"]["reliability"]:
            off = [
                f"{name} is off by {reliability[name]['expected_calibration_error']:.1%}"
                for name in ("agreement", "predict_proba")
                if name in reliability
            ]
            if off:
                say(
                    f"taken as the chance that a point's label is right, {' and '.join(off)} "
                    f"(mean over {reliability['n_samples']:,} points in ten bins; metrics.json)"
                )
    say(f"labels:      {folder.path / 'labels.parquet'}")
    say(f"TensorBoard: tensorboard --logdir {folder.path / 'tensorboard'}")


def _agreement(found: dict[str, Any], method: EnsembleClusterer) -> str:
    """Return on how many points the voters agree, in a sentence."""
    free = found["label_free"]
    share = "all" if method.agreement_threshold == 1 else f"at least {method.agreement_threshold:.0%} of"
    voting = sum(member["status"] == "voting" for member in free["members"])
    whom = "voting members" if voting == free["voters"] else "voters, the members and all their latents together,"
    return (
        f"{share} {free['voters']} {whom} agree on {free['agreed']:.1%} of {found['n_samples']:,} points; "
        f"on average {free['agreement']:.1%} of them agree with a point's label"
    )


def _two(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"


def _percentages(scores: dict[str, float] | None, truth: object) -> list[str]:
    if not truth:
        return []
    return ["-"] * 3 if scores is None else [f"{100 * scores[name]:.1f}" for name in ("acc", "nmi", "ari")]


if __name__ == "__main__":
    sys.exit(main())
