"""CA Table 1 on Fashion-MNIST: each partition support, 5 members, last epoch, no selection.

    python benchmarks/combination.py [NAME ...] [--data DIR] [--members 5] [--epochs 10] [--out FILE]

One line of JSON a setting is appended to FILE; a setting that stands there already is not run again. Every member is a
run of its own: its random streams are addressed by (seed, member). Members run on Ray, one CPU each.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch

import distclust
from distclust import CombinationAssignment, RayPool, load, metrics
from distclust.methods import combination

# name -> parameters; the supports first, then the paper's start and learning rate, and what its program really does
SETTINGS = {
    "greedy": {"support": "greedy"},
    "exact": {"support": "exact"},
    "sinkhorn": {"support": "sinkhorn"},
    "none": {"support": "none"},
    "entropy": {"support": "entropy"},
    "sum-of-squares": {"support": "sum-of-squares"},
    "variance": {"support": "variance"},
    "concrete-k-means": {"support": "concrete-k-means"},
    "sinkhorn-soft": {"support": "sinkhorn-soft"},
    "greedy, normal start": {"support": "greedy", "centroids": "normal"},
    "greedy, constant rate": {"support": "greedy", "schedule": "constant"},
    "greedy, as in the paper": {"support": "greedy", "centroids": "normal", "schedule": "constant"},
    "sinkhorn, as in the paper": {"support": "sinkhorn", "centroids": "normal", "schedule": "constant"},
    "variance, as in the paper": {"support": "variance", "centroids": "normal", "schedule": "constant"},
    "sinkhorn, as in the authors' program": {"support": "sinkhorn", "centroids": "normal", "schedule": "constant"},
    "none, as in the paper": {"support": "none", "centroids": "normal", "schedule": "constant"},
    "greedy, estimated covariance": {"support": "greedy", "covariance": "estimated"},
}


# CA, Table 1, Fashion-MNIST: accuracy, mean (standard deviation) of 5 runs, each at its epoch of best NMI against the
# true labels; VarM: Table 6
PUBLISHED = {
    "greedy": "59.3 (4.16)",
    "sinkhorn": "25.1 (3.13)",
    "entropy": "25.5 (6.16)",
    "sum-of-squares": "10.0 (0.04)",
    "variance": "37.4 (2.53)",
    "concrete-k-means": "22.0 (3.83)",
    "none": "10.0 (-)",
}


def table(lines: list[str]) -> str:
    """Return the results as a table in Markdown, ours beside the paper's."""
    rows = [
        "| setting | accuracy | NMI | ARI | KL* | collapsed | consensus | agreed | published accuracy |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    order = list(SETTINGS)
    for found in sorted(map(json.loads, lines), key=lambda found: order.index(found["setting"])):
        mean, std = found["mean"], found["std"]
        cells = [f"{100 * mean[k]:.1f} ({100 * std[k]:.1f})" for k in ("acc", "nmi", "ari")]
        cells.append(f"{mean['kl_star']:.2f} ({std['kl_star']:.2f})")
        cells.append(f"{found['status'].count('collapsed')} of {len(found['status'])}")
        cells.append("-" if found["consensus"] is None else f"{100 * found['consensus']['acc']:.1f}")
        cells += [f"{100 * found['agreed']:.0f}%", PUBLISHED.get(found["setting"], "")]
        rows.append(f"| {found['setting']} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def run(name: str, data: distclust.Dataset, members: int, epochs: int, seed: int) -> dict[str, object]:
    """Train one setting and return its figures."""
    model = CombinationAssignment(
        **SETTINGS[name],
        n_clusters=10,
        n_members=members,
        n_epochs=epochs,
        n_rounds=min(epochs, 10) if "covariance" in SETTINGS[name] else 1,  # labels are looked at once, at the end
        random_state=seed,
    )
    start = time.perf_counter()
    if "authors' program" in name:  # it takes the least probable cluster: argmin where argmax is meant
        combination._LOSSES["sinkhorn"] = combination._assigned(
            lambda m, cost: combination._sinkhorn(m, cost).argmin(1)
        )
        model.fit(data.x)  # in this process, where the change is seen
    else:
        with RayPool() as pool:
            model.fit(data.x, pool=pool)
    assert data.y is not None
    voters = model.last_round_.agreement.voters
    scores = [metrics.score(o.labels, data.y, 10) for o in model.last_round_.outputs]
    return {
        "setting": name,
        "seed": seed,
        "epochs": epochs,
        "members": scores,
        "mean": {k: float(np.mean([s[k] for s in scores])) for k in scores[0]},
        "std": {k: float(np.std([s[k] for s in scores], ddof=1)) for k in scores[0]} if members > 1 else None,
        "status": [o.status for o in model.last_round_.outputs],
        "consensus": metrics.score(model.labels_, data.y, 10) if voters else None,
        "agreed": float(model.agreed_.mean()),
        "stability": metrics.stability(model.last_round_.agreement.aligned) if voters > 1 else None,
        "seconds": time.perf_counter() - start,
        "command": "python benchmarks/combination.py " + " ".join(f"'{a}'" if " " in a else a for a in sys.argv[1:]),
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {platform.system()}",
        "versions": f"distclust {distclust.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(SETTINGS), metavar="NAME")
    parser.add_argument("--data", help="folder with fashion_mnist.npz (default: DISTCLUST_DATA, else torchvision)")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/combination-fashion-mnist.jsonl"))
    parser.add_argument("--table", action="store_true", help="print what FILE holds as a table, and end")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(arguments.out.read_text().splitlines()))
        return 0
    data = load("fashion-mnist", data_dir=arguments.data)
    lines = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    done = {(r["setting"], r["seed"], r["epochs"], len(r["members"])) for r in map(json.loads, lines)}
    for name in arguments.names:
        if (name, arguments.seed, arguments.epochs, arguments.members) in done:
            continue
        found = run(name, data, arguments.members, arguments.epochs, arguments.seed)
        with open(arguments.out, "a") as file:
            file.write(json.dumps(found) + "\n")
        shown = ("mean", "std", "consensus", "status", "seconds")
        print(name, json.dumps({key: found[key] for key in shown}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
