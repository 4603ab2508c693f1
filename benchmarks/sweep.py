"""What Ray Tune adds to trials of a second: many of them on two CPUs, after both processes are warm.

    python benchmarks/sweep.py [--trials 40] [--n-epochs 16] [--n-rounds 2]

Combination assignment on scikit-learn's digits, a seed a trial. The clock starts when each of the two processes has
ended a trial, with its libraries loaded and its functions compiled. The time is compared with that of the trials
themselves within the same run, so that other work on the machine matters little.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from row import Row, at_most, show

from distclust.sweep import SweepFolder, Trial, read_study, sweep
from distclust.sweep.trial import Outcome

CPUS = 2
STUDY = """\
method: combination
n_epochs: {n_epochs}
n_rounds: {n_rounds}
pool: {{num_cpus: {cpus}}}
space:
  random_state: {{seeds: {trials}}}
study:
  measures: []
"""


def ends(folder: Path, trials: int, n_epochs: int, n_rounds: int) -> list[tuple[float, float]]:
    """Run the trials and return when each ended, and the seconds that it ran, in the order of their ends."""
    found = []

    def ended(trial: Trial, outcome: Outcome) -> None:
        found.append((time.perf_counter(), outcome.figures["seconds"]))

    text = STUDY.format(cpus=CPUS, trials=trials, n_epochs=n_epochs, n_rounds=n_rounds)
    (folder / "seconds.yaml").write_text(text, encoding="utf-8")
    sweep(SweepFolder.create(folder / "sweep", read_study(folder / "seconds.yaml")), ended)
    return found


def measure(trials: int, n_epochs: int, n_rounds: int) -> list[Row]:
    """Return the time of the trials on two CPUs, and what it should be."""
    with tempfile.TemporaryDirectory() as folder:
        found = ends(Path(folder), trials + CPUS, n_epochs, n_rounds)
    warm = found[CPUS:]
    wall, own = warm[-1][0] - found[CPUS - 1][0], sum(seconds for _, seconds in warm)
    return [
        Row("trials, each in a process that is warm", len(warm), ""),
        Row("a trial, mean", own / len(warm), "s"),
        Row(f"all of them on {CPUS} CPUs", wall, "s"),
        Row("what is added to a trial", CPUS * wall / len(warm) - own / len(warm), "s"),
        at_most(f"that time over the trials' own by {CPUS}", wall / (own / CPUS), "x", 1.5),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--n-epochs", type=int, default=16)
    parser.add_argument("--n-rounds", type=int, default=2)
    given = parser.parse_args()
    return show(measure(given.trials, given.n_epochs, given.n_rounds))


if __name__ == "__main__":
    sys.exit(main())
