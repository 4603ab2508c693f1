"""SPC's Tables 1, 2 and 3 and its Figure 2 on USPS, Fashion-MNIST or digits: ours beside the paper's.

    python benchmarks/selective.py [SETTING ...] [--dataset usps] [--seeds 0 1 2] [--n-samples N] [--n-rounds 30]
                                   [--data DIR] [--work DIR] [--out FILE] [--local] [--table]

A setting is the name of one of SETTINGS. One line of JSON a run is appended to FILE, with what is known after every
round; a run that stands there already is not done again, one that broke off goes on after its last round, from
its folder under --work. With --local the members train one after another in this process, to the same labels, so that
two settings side by side use two cores without waiting for anyone. Rounds end by the label-free rule of the method;
true labels are read for the figures alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch

import distclust
from distclust import LocalPool, RayPool, SelectivePseudoLabel, load, metrics
from distclust.contracts import Round
from distclust.methods.selective import ABLATIONS
from distclust.results import RunFolder
from distclust.seeding import generator

HDBSCAN = {"labelling": "umap-hdbscan"}  # as in the paper, where a tree without a cut gives no vote
GMM = {"labelling": "umap-gmm"}
SIZES = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25)
# name -> parameters; the ensemble has 5 members where nothing else is said
SETTINGS = {f"{size} members": {**GMM, "n_members": size} for size in SIZES}
SETTINGS |= {f"{size} members, HDBSCAN": {**HDBSCAN, "n_members": size} for size in SIZES}
SETTINGS |= {f"{name}, HDBSCAN": {**HDBSCAN, "n_members": 5, **changes} for name, changes in ABLATIONS.items()}
SETTINGS |= {name: {**GMM, "n_members": 5, **changes} for name, changes in ABLATIONS.items()}
SETTINGS["5 members, reconstruct all"] = {**GMM, "n_members": 5, "reconstruct": "all"}

# SPC, Tables 1 to 3, USPS: accuracy, mean (standard deviation); 15 members and HDBSCAN unless the name says otherwise.
# The round is the one that scores best against the true labels, and these are the pivot of the alignment.
PUBLISHED = {
    "15 members": "98.18 (.14)",
    "25 members, HDBSCAN": "97.70",
    "20 members, HDBSCAN": "97.87",
    "15 members, HDBSCAN": "98.40 (.94)",
    "12 members, HDBSCAN": "98.20",
    "10 members, HDBSCAN": "98.39",
    "8 members, HDBSCAN": "98.41",
    "6 members, HDBSCAN": "98.40",
    "5 members, HDBSCAN": "98.30",
    "4 members, HDBSCAN": "98.27",
    "3 members, HDBSCAN": "98.15",
    "2 members, HDBSCAN": "97.98",
    "A1, HDBSCAN": "97.03 (.65)",
    "A2, HDBSCAN": "97.31 (.89)",
    "A3, HDBSCAN": "95.85 (.80)",
    "A4, HDBSCAN": "87.49 (7.93)",
    "A5, HDBSCAN": "87.00 (8.88)",
    "A6, HDBSCAN": "70.46",
}


def run(
    name: str, seed: int, data: distclust.Dataset, n_rounds: int, work: Path, local: bool, subset: str = ""
) -> dict[str, object]:
    """Train one setting with one seed, from where it broke off, and return its figures."""
    k = int(data.n_clusters or 0)
    parameters = {"n_clusters": k, "n_rounds": n_rounds, "random_state": seed, **SETTINGS[name]}
    path = work / f"{data.name}-{len(data.x)}-{name.replace(' ', '-').replace(',', '')}-seed{seed}"
    folder = RunFolder.open(path) if path.exists() else RunFolder.create(path, json.dumps(parameters) + "\n")
    trace = path / "trace.jsonl"
    method = SelectivePseudoLabel(**parameters).checked(data.x)
    start = time.perf_counter()
    with (LocalPool if local else RayPool)(storage=folder.members) as pool:
        for last in distclust.rounds(method, data.x, pool, resume=folder.last_round()):
            lines = trace.read_text().splitlines()[: last.index] if trace.exists() else []
            lines.append(json.dumps(figures(last, data, k)))
            trace.write_text("\n".join(lines) + "\n")
            folder.store(last)
            print(f"{name}, seed {seed}, round {last.index + 1}: {lines[-1]}", flush=True)
    folder.close()
    rounds = [json.loads(line) for line in trace.read_text().splitlines()]
    return {
        "setting": name,
        "dataset": data.name,
        "n_samples": len(data.x),
        "seed": seed,
        **rounds[-1],
        "oracle_best_acc": max((r["acc"] for r in rounds if r["acc"] is not None), default=None),
        "rounds": rounds,
        "seconds": sum(r["seconds"] for r in rounds),
        "seconds_of_this_process": time.perf_counter() - start,
        "command": f"python benchmarks/selective.py '{name}' --dataset {data.name} --seeds {seed} "
        f"--n-rounds {n_rounds}{subset}",
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {platform.system()}, {os.cpu_count()} CPUs",
        "versions": f"distclust {distclust.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }


def figures(round: Round, data: distclust.Dataset, n_clusters: int) -> dict[str, object]:
    """Return what Figure 2 shows of a round, and the members' accuracies."""
    a = round.agreement
    assert data.y is not None
    y = data.y

    def scored(labels: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        return metrics.score(labels, truth, n_clusters)

    whole = scored(a.labels, y) if a.voters else None
    return {
        "round": round.index + 1,
        "seconds": round.seconds,
        "voters": a.voters,
        "agreed_share": float(a.agreed.mean()),
        "stability": metrics.stability(a.aligned) if len(a.aligned) > 1 else None,
        "agreed_acc": scored(a.labels[a.agreed], y[a.agreed])["acc"] if a.agreed.any() else None,
        "acc": whole["acc"] if whole else None,
        "nmi": whole["nmi"] if whole else None,
        "members": [scored(o.labels, y)["acc"] if o.status == "voting" else o.status for o in round.outputs],
    }


def table(lines: list[str]) -> str:
    """Return the results as a table in Markdown, ours beside the paper's."""
    found: dict[str, list[dict[str, object]]] = {}
    for line in lines:
        one = json.loads(line)
        found.setdefault(one["setting"], []).append(one)
    rows = [
        "| setting | seeds | accuracy | NMI | agreed points | their accuracy | rounds | published accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in (n for n in SETTINGS if n in found):
        runs = found[name]
        cells = [_spread(runs, key) for key in ("acc", "nmi", "agreed_share", "agreed_acc")]
        rounds = ", ".join(str(r["round"]) for r in runs)
        published = ""
        if runs[0]["dataset"] == "usps":
            published = PUBLISHED.get(name) or f"{PUBLISHED.get(f'{name}, HDBSCAN', '-')} with HDBSCAN"
        rows.append(f"| {name} | {len(runs)} | " + " | ".join([*cells, rounds, published]) + " |")
    return "\n".join(rows)


def _spread(runs: list[dict[str, object]], key: str) -> str:
    values = [100 * float(r[key]) for r in runs if r[key] is not None]  # type: ignore[arg-type]
    if not values:
        return "-"
    return f"{np.mean(values):.2f} ({np.std(values, ddof=1):.2f})" if len(values) > 1 else f"{values[0]:.2f}"


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="SETTING", help="; ".join(SETTINGS))
    parser.add_argument("--dataset", default="usps")
    parser.add_argument("--n-samples", type=int, default=None, help="a random subset of the dataset, of seed 0")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--n-rounds", type=int, default=30)
    parser.add_argument("--data", default=None, help="folder of the npz files")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-selective"))
    parser.add_argument("--out", type=Path, default=None, help="default: benchmarks/results/selective-DATASET.jsonl")
    parser.add_argument("--local", action="store_true", help="train in this process, without Ray")
    parser.add_argument("--table", action="store_true", help="print the table of FILE and end")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.settings if name not in SETTINGS]
    if unknown:
        parser.error(f"unknown settings {unknown}; known are: {'; '.join(SETTINGS)}")
    n_samples = arguments.n_samples
    size = f"-{n_samples}" if n_samples else ""
    subset = f" --n-samples {n_samples}" if n_samples else ""
    out = arguments.out or Path(f"benchmarks/results/selective-{arguments.dataset}{size}.jsonl")
    lines = out.read_text().splitlines() if out.exists() else []
    if arguments.table:
        print(table(lines))
        return 0
    done = {(found["setting"], found["seed"]) for found in map(json.loads, lines)}
    data = load(arguments.dataset, **({"data_dir": arguments.data} if arguments.data else {}))
    if n_samples:
        rows = np.sort(generator(0, "subset of the benchmark").permutation(len(data.x))[:n_samples])
        data = dataclasses.replace(data, x=np.ascontiguousarray(data.x[rows]), y=data.y[rows])
    for name in arguments.settings or ["5 members"]:
        for seed in arguments.seeds:
            if (name, seed) not in done:
                n_rounds = SETTINGS[name].get("n_rounds", arguments.n_rounds)
                found = run(name, seed, data, n_rounds, arguments.work, arguments.local, subset)
                out.parent.mkdir(parents=True, exist_ok=True)
                with out.open("a") as stream:
                    stream.write(json.dumps(found) + "\n")
    print(table(out.read_text().splitlines()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
