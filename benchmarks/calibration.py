"""How far confidences can be taken at their word on points that were not fitted: agreement, posterior, predict_proba.

    python benchmarks/calibration.py [METHOD ...] [--datasets digits usps] [--seeds 0 1 2] [--members 5]

Half of the points, drawn by the seed, are fitted; the other half is predicted. For each confidence it prints the
expected calibration error in ten bins against the true classes, which are read for that figure alone, in percent, mean
(standard deviation) over seeds; and beside it what needs no label: how sure the members are, and how often they agree.
"""

from __future__ import annotations

import argparse

import numpy as np

from distclust import load, metrics
from distclust.methods import METHODS, EnsembleClusterer, method_class
from distclust.seeding import generator

OWN = {  # parameters that are not at their defaults
    "entropy": {"backbone": "linear"},
    "mice": {"n_epochs": 200, "n_rounds": 1},
    "moco": {"n_epochs": 200, "n_rounds": 1},
}


def errors(model: EnsembleClusterer, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return the expected calibration error of each confidence, and the accuracy."""
    labels = model.predict(x)
    rows = np.arange(len(x))
    confidences = {
        "agreement": model.predict_agreement(x),
        "posterior": model.posteriors(x).mean(axis=0)[rows, labels],
        "predict_proba": model.predict_proba(x)[rows, labels],
    }
    found = {
        name: metrics.expected_calibration_error(metrics.reliability(confidence.clip(0, 1), labels, y))
        for name, confidence in confidences.items()
    }
    return found | {"accuracy": metrics.accuracy(labels, y)}


def row(method: str, dataset: str, seeds: list[int], n_members: int) -> str:
    """Fit one model a seed and return the table's row."""
    data, all_found = load(dataset), []
    for seed in seeds:
        order = generator(seed, "halves of the benchmark").permutation(len(data.x))
        fitted, held_out = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
        changes = {"n_clusters": data.n_clusters, "n_members": n_members, "random_state": seed}
        model = method_class(method)(**changes, **OWN.get(method, {})).fit(data.x[fitted])
        found = errors(model, data.x[held_out], data.y[held_out])
        seen = model.calibration_
        all_found.append(
            found
            | {"sure": seen.uncalibrated, "agree": seen.observed, "calibrated": seen.calibrated}
            | {"temperature": seen.temperature}
        )
    columns = ["accuracy", "agreement", "posterior", "predict_proba", "sure", "calibrated", "agree"]
    cells = [_spread([100 * one[name] for one in all_found], "{:.1f} ({:.1f})") for name in columns]
    cells.append(_spread([one["temperature"] for one in all_found], "{:.2f} ({:.2f})"))
    return " | ".join(["", method, dataset, str(len(seeds)), *cells, ""]).strip()


def main() -> None:
    """Print the table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=["combination", "selective", "entropy"], metavar="METHOD")
    parser.add_argument("--datasets", nargs="+", default=["digits", "usps"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--members", type=int, default=5)
    arguments = parser.parse_args()
    for method in arguments.methods:
        if method not in METHODS:
            parser.error(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    print(
        "| method | data | seeds | accuracy | off: agreement | off: posterior | off: predict_proba "
        "| posterior | predict_proba | another member agrees | temperature |"
    )
    print("|" + "---|" * 11)
    for method in arguments.methods:
        for dataset in arguments.datasets:
            print(row(method, dataset, arguments.seeds, arguments.members), flush=True)


def _spread(values: list[float], form: str) -> str:
    return form.format(np.mean(values), np.std(values)) if len(values) > 1 else form.split(" ")[0].format(values[0])


if __name__ == "__main__":
    main()
