"""The theory of entropy clustering made visible: python -m distclust.report.theory [FIGURE ...] [--out DIR].

Figures of *Discriminative entropy clustering and its relation to K-means and SVM*, submitted to TPAMI, 2024, each
computed anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from distclust.command import Parser, exit_code, whole_number
from distclust.contracts import Dataset
from distclust.errors import InputError, UnknownNameError
from distclust.report.figures import FIGURES, ON_DATA, Request
from distclust.report.folder import new_folder
from distclust.report.trials import FEATURES, known_points

_HELP = f"""\
Draw figures of "Discriminative entropy clustering and its relation to K-means and SVM", each computed anew.

FIGURE is one of {", ".join(FIGURES)}; none = all. The folder gets figure-01.png, ... and figures.json
with the numbers behind them. Figure 11 trains networks on classes, as a demonstration of a loss; no clusterer does.
"""


class Arguments(NamedTuple):
    """What the command was asked for."""

    figures: tuple[str, ...]
    out: Path
    seeds: tuple[int, ...]
    dataset: str | None  # None = no figure needs one
    options: dict[str, Any]  # of `load`


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 failed, 2 unusable input, 130 interrupted."""
    words = sys.argv[1:] if argv is None else list(argv)
    done: list[str] = []
    return exit_code(
        lambda: _command(words, done), lambda: f"interrupted; drawn so far: {', '.join(done) or 'no figure'}."
    )


def _command(words: list[str], done: list[str]) -> int:
    given = _parser().parse_intermixed_args(words)
    if given.help:
        print(_parser().format_help())
    else:
        _draw(_checked(given), done)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m distclust.report.theory",
        usage="python -m distclust.report.theory [FIGURE ...] [--out DIR] [--seeds N ...] [--dataset NAME] ...",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=argparse.SUPPRESS)
    parser.add_argument("--out", metavar="DIR", help="a new or empty folder (default: runs/theory-DATE)")
    parser.add_argument(
        "--seeds",
        nargs="+",
        metavar="N",
        default=["0", "1", "2"],
        help="of figures 11 and 12; the first is all others'",
    )
    parser.add_argument("--dataset", metavar="NAME", help="of figures 11 and 12: a name or a .npz file (digits)")
    parser.add_argument("--n-samples", metavar="N", help="take a random subset of the dataset of so many points")
    parser.add_argument("--data-dir", metavar="DIR", help="where the dataset's files lie (default: DISTCLUST_DATA)")
    parser.add_argument("-h", "--help", action="store_true", help="show this and end")
    return parser


def _checked(given: argparse.Namespace) -> Arguments:
    """Return the arguments, checked as far as they can be without the data."""
    for name in given.figures:
        if name not in FIGURES:
            raise UnknownNameError("figure", name, FIGURES, "Give none of them for all.")
    figures = tuple(name for name in FIGURES if name in given.figures or not given.figures)
    seeds = tuple(whole_number("--seeds", word, 0) for word in given.seeds)
    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds {' '.join(given.seeds)} names a seed twice; give different ones.")
    options: dict[str, Any] = {}
    if given.n_samples is not None:
        options["n_samples"] = whole_number("--n-samples", given.n_samples, 1)
    if given.data_dir is not None:
        options["data_dir"] = given.data_dir
    needed = any(name in ON_DATA for name in figures)
    if not needed and (given.dataset is not None or options):
        raise InputError(
            "--dataset, --n-samples and --data-dir are for figure-11 and figure-12, and neither is asked for; leave "
            "them out, or add one of the two."
        )
    out = Path(given.out) if given.out is not None else Path("runs") / f"theory-{time.strftime('%Y%m%d-%H%M%S')}"
    dataset = "digits" if needed and given.dataset is None else given.dataset
    return Arguments(figures, out, seeds, dataset, options)


def _draw(wanted: Arguments, done: list[str]) -> None:
    """Draw one figure after the other into the folder, and note each in `done`."""
    from distclust.distributed.pool import threads

    with new_folder(wanted.out) as folder:
        request = Request(wanted.seeds, None if wanted.dataset is None else _loaded(wanted.dataset, wanted.options))
        data = request.data
        found: dict[str, Any] = {
            "parameters": {
                "seeds": list(wanted.seeds),
                "dataset": None if data is None else data.name,
                "n_samples": None if data is None else len(data.x),
            },
            "figures": {},
        }
        for name in wanted.figures:
            start = time.perf_counter()
            with threads(1):  # the numbers are then the same on any number of CPUs, and small problems are faster
                shown = FIGURES[name](request)
            found["figures"][name] = shown.numbers
            picture = f"figure-{int(name.removeprefix('figure-')):02d}.png"
            folder.write(picture, shown.picture)
            folder.write("figures.json", (json.dumps(found, indent=1, allow_nan=False) + "\n").encode())
            done.append(name)
            seconds = time.perf_counter() - start
            print(f"{name}: {shown.sentence}  -> {wanted.out / picture} ({seconds:.1f} s)", flush=True)
    print(f"numbers: {wanted.out / 'figures.json'}")


def _loaded(name: str, options: dict[str, Any]) -> Dataset:
    """Return a dataset that figures 11 and 12 can be drawn from.

    Raises:
        InputError: there is none of this name, an option is not allowed, or it has too few points or no classes.
    """
    import torch

    from distclust.data import check_x, load
    from distclust.nets import build

    data = load(name, **options)
    data = replace(data, x=check_x(data.x, data.name))
    known_points(data)
    with torch.device("meta"):  # refuses a shape that no network takes
        build("auto", data.x.shape[1:], FEATURES)
    return data


if __name__ == "__main__":
    sys.exit(main())
