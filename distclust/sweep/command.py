"""The commands sweep, compare and table."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distclust.command import INTERRUPTED, existing, interruptible, only, subcommand, typed
from distclust.errors import DistclustError, InputError, on_command_line

if TYPE_CHECKING:
    from distclust.sweep.driver import SweepFolder
    from distclust.sweep.study import Trial
    from distclust.sweep.table import Setting
    from distclust.sweep.trial import Outcome

_SWEEP = """\
Run a study of seeds and parameters on Ray Tune, and write a table of what it found.

FILE is a YAML file with the keys of a run, and
  space:   what varies: AXIS: {grid: [1, 2]}, {seeds: 5}, {cases: {NAME: {key: value}}}, {choice: [1, 2]},
           {uniform: [0, 1]}, {log-uniform: [1, 10000]}
  study:   objective (stability, agreed, agreement, effective_clusters, silhouette, or oracle_acc, ... by true
           labels), choose and resample (recommend a value without labels), n_trials, search, scheduler, workers,
           concurrent, measures, published
  size:    NAME: keys, space and study of that size, as in size=smoke
Words: size=NAME, AXIS=value, space.AXIS={kind: values}, study.OPTION=value, and any key of a run.
"""
_SWEEP_EXAMPLES = """\
examples:
  {program} sweep tune_configs/combination-table-1.yaml size=smoke
  {program} sweep tune_configs/combination-table-1.yaml dataset=fashion-mnist
  {program} sweep tune_configs/choose_k.yaml dataset=my.npy
  {program} sweep --resume runs/combination-table-1-20261125-120000
"""
_COMPARE = "Print a sweep's numbers beside those of the paper's table that its study names."
_TABLE = "Print a table of a paper, as published; without NAME the names of all tables."


def sweep_command(words: Sequence[str]) -> int:
    """Run `sweep FILE [key=value ...] [--out DIR]` or `sweep --resume DIR`, and return the exit code."""
    parser = subcommand("sweep", "FILE [key=value ...] [--out DIR] [--resume DIR]", _SWEEP, _SWEEP_EXAMPLES)
    parser.add_argument("--out", metavar="DIR", help="the sweep's folder (default: runs/FILE-DATE)")
    parser.add_argument("--resume", metavar="DIR", help="continue the sweep that lies there; nothing is run twice")
    given = parser.parse_intermixed_args(words)
    if given.help:
        print(parser.format_help())
        return 0
    folder = _folder(given)
    shown = _Progress(folder)
    shown.begin()
    from distclust.sweep.driver import sweep

    try:
        with interruptible():
            found = sweep(folder, shown.done, shown.connected, shown.restarted, shown.remarked)
    except (KeyboardInterrupt, SystemExit):
        print(
            f"\ndistclust: interrupted with {len(folder.known())} trials ended. Continue with:\n"
            f"  {typed(['sweep', '--resume', str(folder.path)])}",
            file=sys.stderr,
        )
        return INTERRUPTED
    except DistclustError:
        if given.resume is None:
            folder.discard_if_nothing_ran()
        raise
    shown.end(found)
    return 0


def compare_command(words: Sequence[str]) -> int:
    """Run `compare RUN`, and return the exit code."""
    parser = subcommand("compare", "RUN", _COMPARE, "")
    given = parser.parse_args(words)
    if given.help:
        print(parser.format_help())
        return 0
    place = existing(only(given.words, "the folder of a sweep"), "study.yaml", "the folder of a sweep")
    from distclust.sweep.driver import SweepFolder, compared, write_tables

    folder = SweepFolder.open(place)
    found = write_tables(folder)
    if not (named := folder.study.options.tables):
        raise InputError(f"the study of {folder.path} names no published table; add study.published to its YAML file.")
    print(compared(folder.study, found) or f"nothing of {' and '.join(named)} is among what has ended.")
    return 0


def table_command(words: Sequence[str]) -> int:
    """Run `table [NAME]`, and return the exit code."""
    parser = subcommand("table", "[NAME]", _TABLE, "")
    given = parser.parse_args(words)
    from distclust.published import as_printed, table, table_names

    if given.help:
        print(parser.format_help())
    elif given.words:
        print(as_printed(table(only(given.words, "the name of a table"))))
    else:
        print("\n".join(table_names()))
    return 0


COMMANDS = {"sweep": sweep_command, "compare": compare_command, "table": table_command}


def _folder(given: argparse.Namespace) -> SweepFolder:
    from distclust.sweep.study import read_study

    if given.resume is not None:
        if given.out or any(not word.startswith("pool.") for word in given.words):
            raise InputError("with --resume only pool.OPTION=... may be given: a sweep goes on as it was started.")
        existing(given.resume, "study.yaml", "the folder of a sweep")
        print(f"distclust: resuming the sweep in {given.resume}, loading torch ...", flush=True)
        from distclust.sweep.driver import SweepFolder

        return SweepFolder.open(given.resume, given.words)
    if not given.words or "=" in given.words[0]:
        raise InputError("give the YAML file of a study first, as in sweep tune_configs/combination-table-1.yaml.")
    study = read_study(given.words[0], given.words[1:])
    study.check()
    study.check_data()
    print(f"distclust: study {study.name}, loading torch ...", flush=True)
    from distclust.sweep.driver import SweepFolder, default_name

    return SweepFolder.create(Path(given.out) if given.out else Path("runs") / default_name(study), study)


class _Progress:
    """What a sweep prints: a line a trial, and its table."""

    def __init__(self, folder: SweepFolder) -> None:
        from rich.console import Console

        self.folder, self.study = folder, folder.study
        self.console = Console(highlight=False, file=sys.stdout)  # Tune's output is put aside, this is not
        self.total = len(self.study.trials()) or self.study.options.n_trials
        self.ended = 0

    def begin(self) -> None:
        self.ended = sum(outcome.final for _, outcome in self.folder.known())
        already = f", {self.ended} of them done" if self.ended else ""
        self._say(f"study {self.study.name}: {self.total} trials{already}; chosen by {self.study.options.objective}")
        self._say(f"sweep folder: {self.folder.path}")

    def connected(self, url: str) -> None:
        if url:
            self._say(f"Ray dashboard: {url}")

    def done(self, trial: Trial, outcome: Outcome) -> None:
        self.ended += 1
        told = on_command_line(outcome.cause) if outcome.cause else _figures(outcome)
        self._say(f"trial {self.ended}/{self.total}  {trial.title}  {outcome.status}: {told}")

    def restarted(self, trial: Trial, cause: str) -> None:
        self._say(f"{trial.title} is started again, its process died: {cause}")

    def remarked(self, remark: str) -> None:
        self._say(on_command_line(remark))

    def end(self, found: Sequence[Setting]) -> None:
        from distclust.sweep.table import markdown

        self._say("")
        chosen = self.folder.path / "choice.md"
        self._say(chosen.read_text(encoding="utf-8") if chosen.exists() else markdown(self.study, found))
        for name, what in _FILES.items():
            if (self.folder.path / name).exists():
                self._say(f"{what + ':':<22}{self.folder.path / name}")
        if (self.folder.path / "tune").exists():
            self._say(f"{'TensorBoard:':<22}tensorboard --logdir {self.folder.path / 'tune'}")

    def _say(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, markup=False)


_FILES = {
    "table.md": "table",
    "compare.md": "beside the paper",
    "trials.parquet": "a row a trial",
    "choice.json": "what is recommended",
    "objective.png": "picture",
    "rounds.png": "round by round",
    "best.yaml": "the best, to run",
}


_TOLD = {  # figure -> how a line of progress says it
    "stability": "stability {:.2f}",
    "agreed": "agreed {:.1%}",
    "effective_clusters": "{:.1f} clusters in effect",
    "silhouette": "silhouette {:.2f}",
    "seconds": "{:.1f} s",
}


def _figures(outcome: Outcome) -> str:
    found = {name: value for name, value in outcome.figures.items() if not math.isnan(value)}
    silent = [f"{found[name]:.0f} {name}" for name in ("collapsed", "abstained", "lost") if found.get(name)]
    votes = ["no member has a vote"] if found.get("voters") == 0 else []
    told = [form.format(found[name]) for name, form in _TOLD.items() if name in found]
    return ", ".join([*votes, *silent, *told])
