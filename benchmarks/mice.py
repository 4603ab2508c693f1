"""MiCE beside its baseline, MoCo with spherical k-means, trained equally, and k-means on the pixels.

    python benchmarks/mice.py [NAME ...] [--dataset digits] [--seeds 0 1 2] [--n-samples N] [--n-epochs N]
                              [--device cpu] [--data DIR] [--out FILE] [--table]

NAMEs are the settings below; without any, MiCE, MoCo and k-means. Each seed is one model, as in the paper; its labels
are those of the last epoch, and true labels are read for the figures alone. One line of JSON a setting is appended to
FILE; a line that stands there already is not done again.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.cluster import KMeans

import distclust
from distclust import LocalPool, MiCE, MoCo, load, metrics
from distclust.seeding import generator

# name -> (class, parameters); Table 3's ablations are by its letters
SETTINGS: dict[str, tuple[type, dict[str, object]]] = {
    "MiCE": (MiCE, {}),
    "MoCo": (MoCo, {}),
    "MiCE, tau 0.2": (MiCE, {"tau": 0.2}),
    "MoCo, tau 0.2": (MoCo, {"tau": 0.2}),
    "(1) A3": (MiCE, {"gating": "uniform"}),
    "(2) A4": (MiCE, {"expert_heads": "shared"}),
    "(3) A3 + A4": (MiCE, {"gating": "uniform", "expert_heads": "shared"}),
    "(4) A5": (MiCE, {"class_information": False}),
    "(a) no analytical update": (MiCE, {"prototype_update": "gradient"}),
    "(b) no gradient update": (MiCE, {"prototype_update": "analytical"}),
    "(c) random gating prototypes": (MiCE, {"gating_prototypes": "random"}),
    "(d) learned gating prototypes": (MiCE, {"gating_prototypes": "learned"}),
}
K_MEANS = "k-means on pixels"
PUBLISHED = {  # accuracy: CIFAR-10 of Table 1, CIFAR-100 of Table 3
    "MiCE": "83.4 (0.2)",
    "MoCo": "74.7 (1.7)",
    K_MEANS: "22.9",
    "(1) A3": "40.7 of 42.2",
    "(2) A4": "39.3 of 42.2",
    "(3) A3 + A4": "33.6 of 42.2",
    "(4) A5": "17.0 of 42.2",
    "(a) no analytical update": "21.3 of 42.2",
    "(b) no gradient update": "41.0 of 42.2",
    "(c) random gating prototypes": "41.0 of 42.2",
    "(d) learned gating prototypes": "42.0 of 42.2",
}


def dataset(name: str, data_dir: str | None, n_samples: int | None) -> distclust.Dataset:
    """Return the data, or so many points of it."""
    data = load(name, **({"data_dir": data_dir} if data_dir and name != "digits" else {}))
    if n_samples:
        rows = np.sort(generator(0, "subset of the benchmark").permutation(len(data.x))[:n_samples])
        data = dataclasses.replace(data, x=np.ascontiguousarray(data.x[rows]), y=data.y[rows])
    return data


def run(
    name: str, data: distclust.Dataset, seeds: Sequence[int], device: str, changes: dict[str, object]
) -> dict[str, object]:
    """Train one model a seed and return their figures."""
    start, labellings, clusters, losses = time.perf_counter(), [], [], []
    for seed in seeds:
        if name == K_MEANS:
            flat = data.x.reshape(len(data.x), -1).astype(np.float64)
            labellings.append(KMeans(data.n_clusters, n_init=10, random_state=seed).fit_predict(flat).astype(np.int64))
        else:
            cls, parameters = SETTINGS[name]
            method = cls(n_clusters=data.n_clusters, random_state=seed, n_rounds=1, **{**parameters, **changes})
            with LocalPool(device=device, cpus_per_member=1) as pool:
                output = method.fit(data.x, pool=pool).last_round_.outputs[0]
            labellings.append(output.labels)
            losses.append(output.scores["loss"])
        clusters.append(metrics.effective_clusters(labellings[-1]))
        found = metrics.accuracy(labellings[-1], data.y)
        print(f"{name}, seed {seed}: accuracy {found:.4f}, {clusters[-1]:.2f} clusters in effect", flush=True)
    accuracies = [metrics.accuracy(labels, data.y) for labels in labellings]
    return {
        "setting": name,
        "changes": changes,
        "dataset": data.name,
        "n_samples": len(data.x),
        "seeds": list(seeds),
        "accuracies": accuracies,
        "losses": losses,
        "mean": float(np.mean(accuracies)),
        "std": float(np.std(accuracies, ddof=1)) if len(seeds) > 1 else None,
        "nmi": float(np.mean([metrics.normalised_mutual_information(labels, data.y) for labels in labellings])),
        "effective_clusters": float(np.mean(clusters)),
        "stability": metrics.stability(np.stack(labellings)) if len(seeds) > 1 else None,
        "seconds_a_seed": (time.perf_counter() - start) / len(seeds),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else f"{os.cpu_count()} CPUs, 1 thread",
        "date": datetime.date.today().isoformat(),
        "versions": f"distclust {distclust.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }


def table(lines: list[str]) -> str:
    """Return the results as a table in Markdown."""
    rows = [
        "| dataset | setting | seeds | clusters | stability | accuracy | NMI | minutes a seed | paper |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for found in map(json.loads, lines):
        changes = "".join(f", {key} {value}" for key, value in found["changes"].items())
        spread = "" if found["std"] is None else f" ({100 * found['std']:.1f})"
        stability = "-" if found["stability"] is None else f"{found['stability']:.2f}"
        rows.append(
            f"| {found['dataset']} | {found['setting']}{changes} | {len(found['seeds'])} "
            f"| {found['effective_clusters']:.1f} | {stability} | {100 * found['mean']:.1f}{spread} "
            f"| {100 * found['nmi']:.1f} | {found['seconds_a_seed'] / 60:.1f} "
            f"| {PUBLISHED.get(found['setting'], '')} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Run the settings and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join([*SETTINGS, K_MEANS])}")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--n-samples", type=int)
    parser.add_argument("--n-epochs", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "mice.jsonl")
    parser.add_argument("--table", action="store_true", help="print the table of FILE and train nothing")
    arguments = parser.parse_args()
    lines = arguments.out.read_text(encoding="utf-8").splitlines() if arguments.out.exists() else []
    if not arguments.table:
        data = dataset(arguments.dataset, arguments.data or os.environ.get("DISTCLUST_DATA"), arguments.n_samples)
        changes = {"n_epochs": arguments.n_epochs} if arguments.n_epochs else {}
        keys = ("setting", "changes", "dataset", "n_samples", "seeds")
        done = [tuple(json.loads(line)[key] for key in keys) for line in lines]
        for name in arguments.names or ["MiCE", "MoCo", K_MEANS]:
            if name not in SETTINGS and name != K_MEANS:
                parser.error(f"no setting {name!r}; known are {', '.join([*SETTINGS, K_MEANS])}")
            changed = {} if name == K_MEANS else changes
            if (name, changed, data.name, len(data.x), arguments.seeds) in done:
                continue
            lines.append(json.dumps(run(name, data, arguments.seeds, arguments.device, changed)))
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(lines[-1] + "\n")
    print(table(lines))


if __name__ == "__main__":
    main()
