"""How many clusters, without a label: what tune_configs/choose_k.yaml says of data whose number of groups is known.

    python benchmarks/choose_k.py [CASE ...] [--work DIR] [--out FILE] [--table]

A case is one of CASES, or the start of the names of several. One line of JSON a case is appended to FILE; a case that
stands there already is not done again, one that broke off goes on in its folder under --work. Real data is looked for
as `load` does. The true number of classes is written beside what came out, and read by nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shlex
from pathlib import Path

import numpy as np
import pandas as pd

import distclust
from distclust.seeding import generator
from distclust.sweep import SweepFolder, read_study, sweep

STUDY = Path("tune_configs/choose_k.yaml")
FEATURES, SPREAD = 10, 2.5  # of blobs; their centres are drawn from -10 .. 10 along each feature


def numbers(*values: int) -> str:
    """Return the word for the numbers of clusters that are tried, where they are not those of the file."""
    return f"space.n_clusters={{grid: {list(values)}}}"


TO_10, TO_24 = numbers(*range(2, 11)), numbers(2, 5, 8, 11, 14, *range(16, 25))  # as two cores have other work


def blobs(n_clusters: int, seed: int, n_samples: int = 1000) -> list[str]:
    """Return the words of blobs, or of a single Gaussian."""
    options = {"n_clusters": n_clusters, "n_features": FEATURES, "spread": SPREAD, "n_samples": n_samples, "seed": seed}
    return ["dataset=blobs", *(f"dataset.{name}={value}" for name, value in options.items())]


# case -> words, true number of groups; "uniform" words are made by `uniform`
CASES: dict[str, tuple[list[str], int | None]] = {
    **{f"blobs {k}, seed {s}": ([*blobs(k, s), TO_10], k) for k in (2, 3, 5) for s in range(3)},
    **{f"blobs {k}, seed {s}": (blobs(k, s), k) for k in (8, 12) for s in range(3)},
    **{f"blobs 20, seed {s}": ([*blobs(20, s, 2000), TO_24], 20) for s in range(3)},
    **{f"Gaussian, seed {s}": (blobs(1, s), None) for s in range(3)},
    **{f"uniform, {d} features, seed {s}": ([f"uniform {d} {s}"], None) for d in (10, 2) for s in range(3)},
    "digits": (["dataset=digits"], 10),
    "usps": (["dataset=usps", "dataset.n_samples=2000"], 10),
    "fashion-mnist": (["dataset=fashion-mnist", "dataset.n_samples=2000"], 10),
}


def uniform(words: list[str], work: Path) -> list[str]:
    """Return words as they are, or those of a file of uniform numbers that they ask for."""
    if not words[0].startswith("uniform"):
        return words
    _, n_features, seed = words[0].split()
    path = work / f"uniform-{n_features}-{seed}.npy"
    numbers = generator(int(seed), "uniform noise").random((1000, int(n_features)))
    np.save(path, numbers.astype(np.float32))
    return [f"dataset={path}"]


def run(case: str, work: Path) -> dict[str, object]:
    """Run the study on one case and return what it says."""
    words, true = CASES[case]
    path = work / case.replace(",", "").replace(" ", "-")
    there = (path / "study.yaml").exists()
    folder = SweepFolder.open(path) if there else SweepFolder.create(path, read_study(STUDY, uniform(words, work)))
    sweep(folder)
    seconds = pd.read_parquet(path / "trials.parquet", columns=["seconds"])["seconds"].sum()
    (found,) = json.loads((path / "choice.json").read_text())
    return {
        "case": case,
        "true": true,
        **found,
        "minutes": float(seconds) / 60,
        "command": f"python benchmarks/choose_k.py {shlex.quote(case)}",
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {platform.system()}",
        "version": distclust.__version__,
    }


def table(lines: list[str]) -> str:
    """Return the results as a table in Markdown."""
    head = "| data | numbers tried | recommended | level | margin | stability | without structure | true | minutes |"
    rows = [head, "|---" * 9 + "|"]
    for found in map(json.loads, lines):
        values = [c["value"] for c in found["candidates"]]
        chosen = [c for c in found["candidates"] if c["value"] in found["level"]]
        best = max(chosen or found["candidates"], key=lambda c: c["strength"])
        cells = [
            found["case"],
            f"{values[0]} .. {values[-1]}",
            "cannot tell" if found["recommended"] is None else f"**{found['recommended']}**",
            ", ".join(map(str, found["level"])) or "none",
            "" if found["margin"] is None else f"{found['margin']:.1f}",
            f"{best['stability']:.2f} at {best['value']}",
            f"{best['reference']:.2f}",
            "none" if found["true"] is None else str(found["true"]),
            f"{found['minutes']:.0f}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--work", type=Path, default=Path("runs/choose-k"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/choose-k.jsonl"))
    parser.add_argument("--table", action="store_true", help="print what FILE holds as a table, and end")
    arguments = parser.parse_args()
    lines = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    if arguments.table:
        print(table(lines))
        return 0
    arguments.work.mkdir(parents=True, exist_ok=True)
    done = {json.loads(line)["case"] for line in lines}
    for case in dict.fromkeys(name for given in arguments.cases for name in CASES if name.startswith(given)):
        if case in done:
            continue
        found = run(case, arguments.work)
        with open(arguments.out, "a") as file:
            file.write(json.dumps(found) + "\n")
        print(f"{case}: {found['sentence']}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
