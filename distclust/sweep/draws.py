"""Values drawn by what earlier trials gave, with Optuna; no Ray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from distclust.errors import ParameterError
from distclust.parameters import plain_value
from distclust.seeding import integer
from distclust.sweep.study import Axis, Study, Trial
from distclust.sweep.trial import Outcome, objective

_GUIDED = 20  # values asked of Optuna before others are tried: where it is sure it asks for the same again and again
_BLIND = 1000  # values drawn without it before there is taken to be no other


class Draws:
    """Draws the trials of a study, each once, near those that were good.

    Args:
        study: its axes are all drawn.
        known: trials that have ended, and how.
        begun: trials that were drawn before and go on.

    Raises:
        ParameterError: Optuna is not installed.
    """

    def __init__(self, study: Study, known: Iterable[tuple[Trial, Outcome]], begun: Sequence[Trial]) -> None:
        self.study, self.known = study, list(known)
        self._optuna = _optuna()
        self._space = {axis.name: self._distribution(axis) for axis in study.axes}
        seed = integer(study.options.seed, "draws", round=len(self.known))  # a resumed sweep does not draw the same
        sampler = self._optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        self._study = self._optuna.create_study(direction="maximize", sampler=sampler)
        self._asked: dict[str, Any] = {}
        self._names = {trial.name for trial in begun}
        for trial, outcome in self.known:
            self._names.add(trial.name)
            self.tell(trial, outcome)

    def draw(self) -> Trial | None:
        """Return a trial that was not drawn before; None where there have been enough, or no other is found."""
        if len(self._names) >= self.study.options.n_trials:
            return None
        for values, asked in self._candidates():
            trial = self.study.trial(values)
            if trial.name not in self._names:
                self._names.add(trial.name)
                self._asked[trial.name] = asked
                return trial
            if asked is not None:
                self._study.tell(asked, state=self._optuna.trial.TrialState.FAIL)
        return None

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Take in how a trial ended."""
        value = objective(outcome.figures, self.study.options.objective)
        asked = self._asked.pop(trial.name, None)
        if asked is not None:
            self._study.tell(asked, value)
            return
        params = self._params(trial.values)
        self._study.add_trial(self._optuna.trial.create_trial(params=params, distributions=self._space, value=value))

    def _candidates(self) -> Iterator[tuple[dict[str, Any], Any]]:
        """Yield values, and what Optuna calls them; None where they are not its own."""
        for _ in range(_GUIDED):
            asked = self._study.ask(self._space)
            yield self._values(asked.params), asked
        for index in range(_BLIND):
            yield {axis.name: axis.draw(self.study.options.seed, index) for axis in self.study.axes}, None

    def _distribution(self, axis: Axis) -> Any:
        distributions = self._optuna.distributions
        if axis.kind == "choice":  # by their places: Optuna takes no lists
            return distributions.CategoricalDistribution(range(len(axis.values)))
        return distributions.FloatDistribution(*axis.values, log=axis.kind == "log-uniform")

    def _values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {a.name: a.values[params[a.name]] if a.kind == "choice" else params[a.name] for a in self.study.axes}

    def _params(self, values: Mapping[str, Any]) -> dict[str, Any]:
        plain = {name: plain_value(value) for name, value in values.items()}
        return {a.name: a.values.index(plain[a.name]) if a.kind == "choice" else plain[a.name] for a in self.study.axes}


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ParameterError(
            [
                "study: search='optuna' needs Optuna, which is not installed. `pip install 'distclust[optuna]'`, or "
                "use search: random."
            ]
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
