"""Where should the centroids start? Chosen without labels: by how far five seeds agree after one epoch.

    python benchmarks/starts.py [NAME ...] [--data DIR]

Every second image of Fashion-MNIST, one epoch at a constant rate, seeds 0 to 4. Stability is the mean adjusted Rand
index between the seeds' labellings; it alone chose the start. Accuracy stands beside it for the reader.
"""

from __future__ import annotations

import argparse
from itertools import combinations

import numpy as np
import torch
from sklearn.cluster import KMeans

from distclust import CombinationAssignment, load, metrics
from distclust.methods.combination import CombinationMember, equidistant

N_POINTS, N_SEEDS = 10_000, 5


def spread(centres: np.ndarray) -> np.ndarray:
    """Return re-centred centres with standard deviation 1 over all entries."""
    centres = centres - centres.mean(0)
    return centres / centres.std()


def spread_by_dimension(centres: np.ndarray) -> np.ndarray:
    """Return re-centred centres with standard deviation 1 in every dimension."""
    centres = centres - centres.mean(0)
    return centres / centres.std(0)


# name -> (runs of k-means, what is done to its centres)
STARTS = {
    "k-means, unit spread": (1, spread),
    "best of 10 k-means, unit spread": (10, spread),
    "k-means, unit spread in every dimension": (1, spread_by_dimension),
    "best of 10 k-means, equal distances": (10, equidistant),
    "best of 10 k-means, twice the unit spread": (10, lambda centres: 2 * spread(centres)),
}


def labels(x: torch.Tensor, name: str, seed: int) -> np.ndarray:
    """Train one member for an epoch from a start and return its labels."""
    trials, move = STARTS[name]
    settings = CombinationAssignment(random_state=seed, n_epochs=1, n_rounds=1, schedule="constant")
    member = CombinationMember(settings, tuple(x.shape[1:]), 0)
    member.net.scaling.fit(x, "auto")
    drawn = np.random.default_rng(seed).permutation(len(x))[:N_POINTS]
    with torch.no_grad():
        latents = torch.cat([member.net.encode(xb) for xb in x[torch.from_numpy(drawn)].split(256)])
        centres = KMeans(10, n_init=trials, random_state=seed).fit(latents.double().numpy()).cluster_centers_
        member.net.centroids.copy_(torch.from_numpy(move(centres)))
    member._start = lambda _: None  # type: ignore[method-assign]
    return member.advance(x, None, 0).labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(STARTS), metavar="NAME")
    parser.add_argument("--data", help="folder with fashion_mnist.npz (default: DISTCLUST_DATA, else torchvision)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load("fashion-mnist", data_dir=arguments.data)
    x, y = torch.from_numpy(np.ascontiguousarray(data.x[::2])), data.y[::2]
    for name in arguments.names:
        found = [labels(x, name, seed) for seed in range(N_SEEDS)]
        accuracy = [metrics.accuracy(one, y) for one in found]
        stability = np.mean([metrics.adjusted_rand_index(a, b) for a, b in combinations(found, 2)])
        print(
            f"{name:42} stability {stability:.3f}   accuracy {np.mean(accuracy):.3f} ({np.std(accuracy, ddof=1):.3f})  "
            + " ".join(f"{a:.3f}" for a in accuracy),
            flush=True,
        )


if __name__ == "__main__":
    main()
