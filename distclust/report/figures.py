"""The figures of entropy clustering's theory: each is computed, says what came out, and is drawn.

Figures 1, 3, 4, 5, 8, 10, 11 and 12 of *Discriminative entropy clustering and its relation to K-means and SVM*,
submitted to TPAMI, 2024, whose equations these are.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from distclust.contracts import Array, Dataset, Labels
from distclust.report.pictures import Chart, Curve, Panel, charts, planes
from distclust.report.planar import (
    SMALL_GAMMA,
    LinearSoftmax,
    SoftKMeans,
    degrees_between,
    entropy_minimum,
    minima,
    soft_k_means_minimum,
    strips,
    svm_normal,
)
from distclust.report.trials import LAMBDA, Update, noise_trial, update_trial
from distclust.seeding import integer

if TYPE_CHECKING:
    from torch import Tensor

GAMMAS = (1e-5, 0.005, 0.01, 0.15)  # of figure 4
ORDERS = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, math.inf)  # of figure 5
PAIRS = ((0.9, 0.1), (0.5, 0.5))  # u and y of figure 10
NOISE_SHARES = (0.2, 0.4, 0.6, 0.8)  # eta of figure 11
N_EPOCHS = 50  # of figure 12

_EDGE = 690.0  # log odds where the share is about as small as a number can be


# Entropies and divergences of figures 5 and 10


def log_odds(furthest: float, n_points: int = 401) -> Array:
    """Return log odds from -furthest to furthest, (n_points,), denser around 0: shares that reach close to 0 and 1."""
    return np.asarray(np.sinh(np.linspace(-1, 1, n_points) * math.asinh(furthest)))


def renyi_entropies(odds: Array, alpha: float) -> Array:
    """Return the Renyi entropy of each (s, 1 - s) in nats, (N,); eq. (16).

    Args:
        odds: (N,) log odds of s, finite.
        alpha: order, >= 0.
    """
    from distclust import losses

    return _for_each(lambda logits: losses.decisiveness(logits, alpha), odds)


class Divergences(NamedTuple):
    """What figure 10 shows of one pair of a fixed distribution p and each q, in nats, (N,) each."""

    forward_divergence: Array  # KL(p || q)
    reverse_divergence: Array  # KL(q || p)
    reverse_cross_entropy: Array  # H(q, p)
    forward_cross_entropy: Array  # H(p, q)


def divergences(fixed: tuple[float, float], odds: Array) -> Divergences:
    """Return divergences and cross-entropies between a fixed distribution and others; figure 10.

    Args:
        fixed: p, two shares > 0 that sum to one: u of figure 10(a), y of 10(b).
        odds: (N,) log odds of q = (s, 1 - s), finite.
    """
    import torch

    from distclust import losses

    p = torch.tensor([fixed], dtype=torch.float64)  # (1, 2)
    own = float(losses.decisiveness(p.log()))
    forward = _for_each(lambda logits: losses.cross_entropy(logits, p), odds)
    reverse = _for_each(lambda logits: losses.reverse_cross_entropy(logits, p), odds)
    return Divergences(forward - own, reverse - renyi_entropies(odds, 1.0), reverse, forward)


def _for_each(loss: Callable[[Tensor], Tensor], odds: Array) -> Array:
    """Return a loss of logits (1, 2) for each of the log odds (N,), (N,)."""
    import torch

    return np.array([float(loss(torch.tensor([[value, 0.0]], dtype=torch.float64))) for value in odds])


# The figures: each computes, says what came out, and draws


@dataclass(frozen=True)
class Request:
    """What figures are made from.

    Args:
        seeds: of figures 11 and 12, >= 0; the first also draws the points and starts of figures 1, 3, 4 and 8.
        data: of figures 11 and 12; None where neither is asked for.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    data: Dataset | None = None


class Shown(NamedTuple):
    """A figure."""

    sentence: str  # its main result in numbers
    numbers: dict[str, Any]  # for figures.json
    picture: bytes  # PNG


def figure_1(request: Request) -> Shown:
    """Entropy clustering against K-means on two strips."""
    from sklearn.cluster import KMeans

    seed = request.seeds[0]
    x, classes = strips(seed=seed)
    fitted = KMeans(2, n_init=10, random_state=integer(seed, "k-means")).fit(x)
    compact = SoftKMeans(fitted.cluster_centers_.astype(np.float64), SMALL_GAMMA, float(fitted.inertia_ / len(x)))
    model = entropy_minimum(x, 2, SMALL_GAMMA, seed=seed)
    found = {
        "k_means": _split_numbers(compact, x, classes),
        "entropy_clustering": _split_numbers(model, x, classes),
    }
    off = {name: numbers["degrees_from_svm"] for name, numbers in found.items()}
    panels = [
        Panel(f"(a) K-means\n{off['k_means']:.1f}° from the SVM's boundary", x, compact.labels(x), compact.posterior),
        Panel(
            f"(b) entropy clustering, eq. (14)\n{off['entropy_clustering']:.1f}° from the SVM's boundary",
            x,
            model.labels(x),
            model.posterior,
        ),
    ]
    title = (
        f"Two long clusters: entropy clustering is {off['entropy_clustering']:.1f}° off the greatest margin, "
        f"K-means {off['k_means']:.1f}°"
    )
    sentence = (
        f"K-means splits {off['k_means']:.1f} degrees off the SVM with the true labels, entropy clustering "
        f"{off['entropy_clustering']:.1f}"
    )
    return Shown(sentence, {"gamma": SMALL_GAMMA, "seed": seed, **found}, planes(title, panels, 2))


def figure_3(request: Request) -> Shown:
    """Global and local minima of eqs. (14) and (11)."""
    seed = request.seeds[0]
    x, classes = strips(seed=seed)
    found = minima(x, seed)
    models: list[tuple[str, str, LinearSoftmax | SoftKMeans]] = [
        ("entropy_global", "(a) rEC, global", found.entropy_global),
        ("entropy_local", "(b) rEC, local, from (d)", found.entropy_local),
        ("k_means_local", "(c) soft K-means, local, from (a)", found.k_means_local),
        ("k_means_global", "(d) soft K-means, global", found.k_means_global),
    ]
    panels = [
        Panel(f"{name}\nloss = {model.loss:.4f}", x, model.labels(x), model.posterior) for _, name, model in models
    ]
    numbers = {
        "gamma": SMALL_GAMMA,
        "seed": seed,
        **{key: _split_numbers(model, x, classes) for key, _, model in models},
        "entropy_from_c_returns_to_a": found.entropy_returns,
        "k_means_from_b_returns_to_d": found.k_means_returns,
    }
    title = (
        f"Minima at γ = {SMALL_GAMMA:g}: does descent of rEC from (c) return to (a)? "
        f"{_yes(found.entropy_returns)}; Lloyd's from (b) to (d)? {_yes(found.k_means_returns)}"
    )
    sentence = (
        f"rEC {found.entropy_global.loss:.4f} (a) and {found.entropy_local.loss:.4f} (b), soft K-means "
        f"{found.k_means_local.loss:.4f} (c) and {found.k_means_global.loss:.4f} (d); rEC from (c) returns to (a): "
        f"{_yes(found.entropy_returns)}, Lloyd from (b) to (d): {_yes(found.k_means_returns)}"
    )
    return Shown(sentence, numbers, planes(title, panels, 2))


def figure_4(request: Request) -> Shown:
    """Global minima of eqs. (14) and (11) for four gamma."""
    seed = request.seeds[0]
    x, classes = strips(seed=seed)
    models: dict[str, list[LinearSoftmax | SoftKMeans]] = {
        "rEC": [entropy_minimum(x, 2, gamma, seed=seed) for gamma in GAMMAS],
        "soft K-means": [soft_k_means_minimum(x, 2, gamma, seed=seed) for gamma in GAMMAS],
    }
    numbers = {name: [_split_numbers(m, x, classes) for m in row] for name, row in models.items()}
    panels = [
        Panel(
            f"{name}, γ = {gamma:g}\n{_degrees(of['degrees_from_svm'])} from SVM", x, model.labels(x), model.posterior
        )
        for name, row in models.items()
        for gamma, model, of in zip(GAMMAS, row, numbers[name], strict=True)
    ]
    off = {name: ", ".join(_degrees(of["degrees_from_svm"]) for of in row) for name, row in numbers.items()}
    title = "Lowest minima over γ, and how far their boundary is turned from that of greatest margin"
    sentence = (
        f"degrees off the SVM at gamma {', '.join(f'{gamma:g}' for gamma in GAMMAS)}: rEC {off['rEC']}; "
        f"soft K-means {off['soft K-means']}"
    )
    found = {"seed": seed, "gamma": list(GAMMAS), "entropy": numbers["rEC"], "k_means": numbers["soft K-means"]}
    return Shown(sentence, found, planes(title, panels, 4))


def figure_5(request: Request) -> Shown:
    """Renyi entropies of binary distributions."""
    from scipy.special import expit

    odds = log_odds(_EDGE)
    shares = expit(odds)
    curves = {alpha: renyi_entropies(odds, alpha) for alpha in ORDERS}
    named = [
        Curve(f"α = {_alpha_name(alpha)}", shares, values, colour)
        for colour, (alpha, values) in enumerate(curves.items())
    ]
    chart = Chart("", "ς, probability of the first class", "Rényi entropy in nats", named, top=0.75)
    title = "Rényi entropy of a binary decision: every order above 0 falls to nothing at certainty"
    at = {alpha: float(renyi_entropies(np.log([0.1 / 0.9]), alpha)[0]) for alpha in ORDERS}
    sentence = f"at (0.1, 0.9) nats by order: {', '.join(f'{value:.3f} ({a:g})' for a, value in at.items())}"
    numbers = {
        "shares": shares.tolist(),
        "entropies": {str(alpha): values.tolist() for alpha, values in curves.items()},
        "entropies_at_0.1": {str(alpha): value for alpha, value in at.items()},
    }
    return Shown(sentence, numbers, charts(title, [chart]))


def figure_8(request: Request) -> Shown:
    """Entropy clustering against soft K-means on three strips."""
    from distclust.metrics import accuracy

    seed = request.seeds[0]
    x, classes = strips(3, seed=seed)
    models: dict[str, LinearSoftmax | SoftKMeans] = {
        "soft_k_means": soft_k_means_minimum(x, 3, SMALL_GAMMA, n_starts=30, seed=seed),
        "entropy_clustering": entropy_minimum(x, 3, SMALL_GAMMA, n_starts=60, seed=seed),
    }
    right = {name: float(accuracy(model.labels(x), classes)) for name, model in models.items()}
    names = ("(a) soft K-means, eq. (11)", "(b) entropy clustering, eq. (14)")
    panels = [
        Panel(f"{name}\nloss = {model.loss:.4f}", x, model.labels(x), model.posterior)
        for name, (key, model) in zip(names, models.items(), strict=True)
    ]
    found = {key: {"accuracy": right[key], **_model_numbers(model)} for key, model in models.items()}
    sentence = f"accuracy of soft K-means {right['soft_k_means']:.3f}, of rEC {right['entropy_clustering']:.3f}"
    title = (
        f"Three long clusters: entropy clustering keeps {right['entropy_clustering']:.0%} of the points together, "
        f"soft K-means {right['soft_k_means']:.0%}"
    )
    return Shown(sentence, {"gamma": SMALL_GAMMA, "seed": seed, **found}, planes(title, panels, 2))


def figure_10(request: Request) -> Shown:
    """Forward and reverse Kullback-Leibler divergence and cross-entropy of binary distributions."""
    from scipy.special import expit

    odds = log_odds(math.log(9999))
    shares = expit(odds)
    found = [divergences(pair, odds) for pair in PAIRS]
    fair, crossed = [], []
    for colour, (pair, of) in enumerate(zip(PAIRS, found, strict=True)):
        fair += [
            Curve(f"KL(u ‖ ȳ), u = {pair}", shares, of.forward_divergence, colour),
            Curve(f"KL(ȳ ‖ u), u = {pair}", shares, of.reverse_divergence, colour, dashed=True),
        ]
        crossed += [
            Curve(f"H(σ, y), y = {pair}", shares, of.reverse_cross_entropy, colour),
            Curve(f"H(y, σ), y = {pair}", shares, of.forward_cross_entropy, colour, dashed=True),
        ]
    shown = [
        Chart("(a) an empty cluster costs KL(u ‖ ȳ) without bound", "share ȳ of the first cluster", "nats", fair, 2.5),
        Chart("(b) H(σ, y) has no slope where y is even", "prediction σ of the first class", "nats", crossed, 2.5),
    ]
    even = found[1].reverse_cross_entropy
    sentence = (
        f"at a share of {shares[0]:g}, u even, KL(u || y) is {found[1].forward_divergence[0]:.2f} and "
        f"KL(y || u) {found[1].reverse_divergence[0]:.2f} nats; H(s, y) for even y varies by {np.ptp(even):.1g}"
    )
    numbers = {
        "shares": shares.tolist(),
        "pairs": [
            {"fixed": list(pair), **{name: values.tolist() for name, values in of._asdict().items()}}
            for pair, of in zip(PAIRS, found, strict=True)
        ],
    }
    return Shown(
        sentence, numbers, charts("Forward and reverse: solid is what eq. (42) takes, dashed the usual", shown)
    )


def figure_11(request: Request) -> Shown:
    """Test accuracy over the share of corrupted labels, by reverse and forward cross-entropy; supervised."""
    assert request.data is not None
    trials = []
    for share in NOISE_SHARES:
        for seed in request.seeds:
            trials.append(noise_trial(request.data, share, seed))
            _progress(f"figure-11: {len(trials)} of {len(NOISE_SHARES) * len(request.seeds)} pairs of networks trained")
    numbers: dict[str, Any] = {"shares": list(NOISE_SHARES)}
    curves = []
    for colour, name in enumerate(("reverse", "forward")):
        values = [[getattr(t, name) for t in trials if t.share == share] for share in NOISE_SHARES]
        numbers[name] = [_summary(of_seeds) for of_seeds in values]
        means, spreads = np.mean(values, axis=1), np.std(values, axis=1)
        label = {"reverse": "reverse H(σ, y)", "forward": "forward H(y, σ)"}[name]
        curves.append(Curve(label, 100 * np.array(NOISE_SHARES), 100 * means, colour, name == "forward", 100 * spreads))
    chart = Chart("", "η, corrupted labels in %", "accuracy on clean test points in %", curves, top=100)
    sentence = "test accuracy, reverse against forward: " + ", ".join(
        f"{a['mean']:.3f} : {b['mean']:.3f} at {share:g}"
        for share, a, b in zip(NOISE_SHARES, numbers["reverse"], numbers["forward"], strict=True)
    )
    title = f"Training on corrupted labels of {request.data.name}, {_of_seeds(request.seeds)}"
    return Shown(sentence, numbers, charts(title, [chart]))


def figure_12(request: Request) -> Shown:
    """Loss (42) over epochs, with pseudo-labels once a batch or once an epoch."""
    assert request.data is not None
    updates: tuple[Update, ...] = ("batch", "epoch")
    found = {
        update: [update_trial(request.data, update, seed, N_EPOCHS) for seed in request.seeds] for update in updates
    }
    epochs = np.arange(1, N_EPOCHS + 1)
    right = {update: _summary([trial.accuracy for trial in trials]) for update, trials in found.items()}
    curves = [
        Curve("" if index else _update_name(update, right[update]), epochs, np.array(trial.losses), colour, colour > 0)
        for colour, (update, trials) in enumerate(found.items())
        for index, trial in enumerate(trials)
    ]
    numbers: dict[str, Any] = {
        update: {"accuracy": right[update], "losses": [list(trial.losses) for trial in trials]}
        for update, trials in found.items()
    }
    ends = {update: float(np.mean([trial.losses[-1] for trial in trials])) for update, trials in found.items()}
    sentence = "; ".join(
        f"{_once(update)}: loss {ends[update]:.3f}, accuracy {right[update]['mean']:.3f} "
        f"({right[update]['standard_deviation']:.3f})"
        for update in found
    )
    chart = Chart("", "epoch", "loss (42) on all points", curves)
    title = f"Pseudo-labels once a batch or once an epoch: {request.data.name}, {_of_seeds(request.seeds)}"
    return Shown(sentence, {"lambda": LAMBDA, **numbers}, charts(title, [chart]))


FIGURES: dict[str, Callable[[Request], Shown]] = {
    "figure-1": figure_1,
    "figure-3": figure_3,
    "figure-4": figure_4,
    "figure-5": figure_5,
    "figure-8": figure_8,
    "figure-10": figure_10,
    "figure-11": figure_11,
    "figure-12": figure_12,
}
ON_DATA = ("figure-11", "figure-12")


def _split_numbers(model: LinearSoftmax | SoftKMeans, x: Array, classes: Labels) -> dict[str, Any]:
    """Return a model of two clusters as numbers, with how far its boundary is turned from the SVM's."""
    rows = model.weights if isinstance(model, LinearSoftmax) else model.centroids
    apart = rows[0] - rows[1]
    off = degrees_between(apart, svm_normal(x, classes)) if apart.any() else None
    gap = {"gap": model.gap(x)} if isinstance(model, LinearSoftmax) else {}
    return {**_model_numbers(model), "degrees_from_svm": off, **gap}


def _model_numbers(model: LinearSoftmax | SoftKMeans) -> dict[str, Any]:
    if isinstance(model, LinearSoftmax):
        return {"loss": model.loss, "weights": model.weights.tolist(), "bias": model.bias.tolist()}
    return {"loss": model.loss, "centroids": model.centroids.tolist()}


def _summary(values: Sequence[float]) -> dict[str, Any]:
    """Return values, one a seed, with their mean and standard deviation."""
    return {"seeds": list(values), "mean": float(np.mean(values)), "standard_deviation": float(np.std(values))}


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _degrees(angle: float | None) -> str:
    return "no boundary" if angle is None else f"{angle:.1f}°"  # all centroids may be one for a great gamma


def _alpha_name(alpha: float) -> str:
    return "∞" if math.isinf(alpha) else f"{alpha:g}"


def _once(update: Update) -> str:
    return "once an epoch" if update == "epoch" else "once a batch"


def _update_name(update: Update, right: dict[str, Any]) -> str:
    return f"{_once(update)}: accuracy {100 * right['mean']:.1f} % (std {100 * right['standard_deviation']:.1f})"


def _of_seeds(seeds: Sequence[int]) -> str:
    return "one seed" if len(seeds) == 1 else f"{len(seeds)} seeds"


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)
