"""Sweeps on Ray Tune: the same as in this process, whatever dies on the way; what is drawn, named and held."""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from distclust import LocalPool
from distclust.errors import ParameterError, RunError, RunFolderError
from distclust.results import Record
from distclust.run import main
from distclust.sweep import SweepFolder, read_study, sweep, tune
from distclust.sweep.draws import Draws
from distclust.sweep.trial import Outcome, Watch, copy_of, given_up, outcome, steps, store_outcome

pytestmark = pytest.mark.xdist_group("ray")  # one at a time: they start Rays and kill what is in them

STUDY = {
    "method": "combination",
    "support": "sinkhorn",
    "dataset": {"name": "digits", "n_samples": 600},
    "n_epochs": 2,
    "n_rounds": 2,
    "space": {"random_state": {"seeds": 2}},
}
LONG = {**STUDY, "n_epochs": 60, "n_rounds": 20, "space": {"random_state": {"seeds": 4}}}


@pytest.fixture
def make(tmp_path):
    def folder(name="sweep", base=STUDY, **changes):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**base, **changes}, sort_keys=False))
        return SweepFolder.create(tmp_path / name, read_study(path))

    return folder


def in_this_process(make, base=STUDY, **changes):
    folder = make("local", base, **{**changes, "pool": {"kind": "local"}})
    sweep(folder)
    return folder


def assert_same(ours, theirs):
    """Byte for byte the same labels, and the same tables but for the seconds."""
    names = sorted(trial.name for trial, _ in theirs.known())
    assert sorted(trial.name for trial, _ in ours.known()) == names
    for name in names:
        one, other = (folder.path / "trials" / name / "labels.parquet" for folder in (ours, theirs))
        assert one.read_bytes() == other.read_bytes()
    for name in ("trials", "rounds"):
        one, other = (pd.read_parquet(folder.path / f"{name}.parquet") for folder in (ours, theirs))
        pd.testing.assert_frame_equal(one.drop(columns="seconds"), other.drop(columns="seconds"))
    assert without_seconds(ours) == without_seconds(theirs)


def without_seconds(folder):
    """The cells of table.md."""
    lines = (folder.path / "table.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    place = rows[0].index("seconds")
    rest = [line for line in lines if not line.startswith("|")]
    return [row[:place] + row[place + 1 :] for row in rows if not row[0].startswith("--")], rest


def wait_for(condition, what, seconds=300):
    """Wait until a condition holds, and return what it returned."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.02)
    return found


# --- without Ray ---


@pytest.fixture
def drawn(tmp_path):
    def study(space, **options):
        path = tmp_path / "drawn.yaml"
        options = {"search": "optuna", "objective": "agreed", "n_trials": 6, **options}
        path.write_text(yaml.safe_dump({**STUDY, "space": space, "study": options}))
        return read_study(path)

    return study


def ended(agreed):
    return Outcome("finished", "", 2, {"agreed": agreed})


def test_a_trial_is_drawn_once_until_there_is_none_left(drawn):
    study = drawn({"sigma": {"choice": [1, 10, 100]}, "centroids": {"choice": ["normal", "k-means"]}}, n_trials=50)
    draws, found = Draws(study, [], []), []
    while (trial := draws.draw()) is not None:
        draws.tell(trial, ended(0.5))
        found.append(trial.name)
    assert len(found) == len(set(found)) == 6


def test_no_more_is_drawn_than_is_asked_for(drawn):
    draws = Draws(drawn({"sigma": {"uniform": [1, 100]}}), [], [])
    assert len([trial for _ in range(9) if (trial := draws.draw())]) == 6


def test_draws_turn_to_where_it_is_good(drawn):
    study = drawn({"sigma": {"log-uniform": [1, 10000]}}, n_trials=60)
    draws, found = Draws(study, [], []), []
    while (trial := draws.draw()) is not None:
        found.append(trial.values["sigma"])
        draws.tell(trial, ended(-abs(np.log10(found[-1]) - 3)))
    early, late = (np.mean(np.abs(np.log10(part) - 3)) for part in (found[:20], found[-20:]))
    assert late < 0.8 * early


def test_a_resumed_sweep_draws_others_than_it_had(drawn):
    study = drawn({"sigma": {"uniform": [1, 100]}, "hidden": {"choice": [[1, 2], [3]]}})
    first = Draws(study, [], [])
    had = [first.draw() for _ in range(3)]
    stored = [study.trial(json.loads(json.dumps(dict(trial.values)))) for trial in had]  # lists where tuples were
    again = Draws(study, [(trial, ended(0.5)) for trial in stored[:2]], stored[2:])
    more = [trial for _ in range(9) if (trial := again.draw())]
    assert len(more) == 3
    assert not {trial.name for trial in had} & {trial.name for trial in more}


def test_a_study_without_optuna_says_what_to_install(drawn, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ParameterError, match=r"pip install 'distclust\[optuna\]'"):
        Draws(drawn({"sigma": {"uniform": [1, 100]}}), [], [])


def test_every_value_of_a_choice_is_checked_beforehand(drawn):
    study = drawn({"support": {"choice": ["greedy", "exact", "gredy"]}, "n_clusters": {"choice": [10, 1]}})
    with pytest.raises(ParameterError) as caught:
        study.check()
    assert len(caught.value.faults) == 2


def test_the_queue_ends_when_nothing_can_come_back(make):
    trials = make().study.trials()
    queue = tune._Queue(trials, None)
    assert [queue.suggest("a")["random_state"], queue.suggest("b")["random_state"]] == [0, 1]
    assert queue.suggest("c") is None  # both run
    queue.on_trial_complete("a")
    queue.on_trial_complete("b", error=True)
    queue.waiting.append(trials[1])
    assert queue.suggest("c")["random_state"] == 1
    queue.on_trial_complete("c")
    assert queue.suggest("d") == "FINISHED"


def events(study, where, told, retries=3):
    def refuse(*_):
        raise RunFolderError("the disk is full")

    queue, stop = tune._Queue([], None), tune._Stop()
    watch = Watch(print, print, lambda trial, cause: told.append(cause), refuse)
    return tune._Events(study, str(where), queue, stop, watch), queue, stop


class Tunes:
    """A trial as Tune has it."""

    config, error_file = {"random_state": 0}, None


def test_what_cannot_be_stored_at_the_end_of_a_trial_ends_the_sweep(make, tmp_path):
    found, _, stop = events(make().study, tmp_path, [])
    store_outcome(f"{tmp_path}/{make('again').study.trials()[0].name}", ended(0.5))
    found.on_trial_complete(0, [], Tunes)
    assert str(stop.error) == "the disk is full"
    assert stop.stop_all()


def test_a_trial_whose_process_dies_is_given_up_after_so_many_deaths_in_one_round(make, tmp_path):
    study, told = make(pool={"retries": 2}).study, []
    found, queue, _ = events(study, tmp_path, told)
    for _ in range(2):
        found.on_trial_error(0, [], Tunes)
    found.on_trial_result(0, [], Tunes, {})  # a round was finished
    for _ in range(2):
        found.on_trial_error(0, [], Tunes)
    assert len(told) == len(queue.waiting) == 4
    found.on_trial_error(0, [], Tunes)
    assert len(queue.waiting) == 4
    given = outcome(tmp_path / study.trials()[0].name)
    assert (given.status, given.cause) == ("failed", "its process died 3 times within a round: no cause is known")


def test_a_sweep_that_finds_no_room_says_so_after_a_while(make, tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "PATIENCE", 0.0)
    found, _, stop = events(make().study, tmp_path, [])
    found.on_step_begin(0, [SimpleNamespace(status="PENDING"), SimpleNamespace(status="RUNNING")])
    assert not stop.stop_all()
    found.on_step_begin(0, [SimpleNamespace(status="PENDING")])
    assert "no trial could be started within 0 s" in str(stop.error)


DIED = "Failure # 1 (occurred at x)\nold\nFailure # 2 (occurred at y)\nThe actor died unexpectedly.\n\tclass_name: x\n"
RAISED = "Failure # 1 (occurred at x)\nray::x.train() (pid=1)\n  File 'x'\nKeyError: 'digits'\n"


@pytest.mark.parametrize(("text", "cause"), [(DIED, "The actor died unexpectedly."), (RAISED, "KeyError: 'digits'")])
def test_the_cause_of_a_death_is_one_line(text, cause, tmp_path):
    (tmp_path / "error.txt").write_text(text)
    assert tune._cause(str(tmp_path / "error.txt")) == cause
    assert tune._cause(None) == tune._cause(str(tmp_path / "none")) == "no cause is known"


def test_errors_of_tune_become_ours(tmp_path):
    full = tune._as_ours(tune.TuneError("Traceback ...\nOSError: [Errno 28] No space left on device"), tmp_path)
    assert isinstance(full, RunFolderError)
    assert "No space left on device" in str(full)
    assert isinstance(tune._as_ours(OSError(28, "No space left on device"), tmp_path), RunFolderError)
    assert isinstance(tune._as_ours(tune.TuneError("Traceback ...\nKeyError: 3"), tmp_path), RunError)


@pytest.fixture
def trial_and_data(make):
    trial = make(pool={"kind": "local"}).study.trials()[0]
    return trial, trial.spec.load()


def drain(trial, data, where):
    return list(steps(trial, data, where, LocalPool(storage=f"{where}/members"), ["silhouette"]))


def test_a_trial_that_ended_before_its_process_died_is_not_run_again(trial_and_data, tmp_path):
    first = drain(*trial_and_data, tmp_path)
    stored = (tmp_path / "outcome.json").stat().st_mtime_ns
    assert [step.done for step in first] == [False, True]
    (again,) = drain(*trial_and_data, tmp_path)
    assert again.done
    assert again.round == 2
    assert again.figures == first[-1].figures
    assert (tmp_path / "outcome.json").stat().st_mtime_ns == stored


def test_a_trial_that_was_given_up_goes_on_from_its_last_round(trial_and_data, tmp_path):
    for step in steps(*trial_and_data, tmp_path, LocalPool(storage=f"{tmp_path}/members"), []):
        if step.round == 1:
            break
    assert given_up(tmp_path, "it died").n_rounds == 1
    assert [step.round for step in drain(*trial_and_data, tmp_path)] == [2]
    assert outcome(tmp_path).status == "finished"


def test_causes_of_lost_members_are_kept(trial_and_data, tmp_path, monkeypatch):
    def fails(pool, agreed, round):
        from distclust.errors import MembersLost

        raise MembersLost({0: "ZeroDivisionError: a bug"})

    monkeypatch.setattr(LocalPool, "advance", fails)
    drain(*trial_and_data, tmp_path)
    assert outcome(tmp_path).cause == "every member of the ensemble was lost: member 0: ZeroDivisionError: a bug"


def test_what_says_that_a_trial_ended_is_copied_last(tmp_path, monkeypatch):
    from distclust.distributed.checkpoint import LocalFolder

    for name in ("labels.parquet", "outcome.json", "rounds.jsonl"):
        LocalFolder(tmp_path / "there").write(name, b"x")
    copied, write = [], LocalFolder.write
    monkeypatch.setattr(LocalFolder, "write", lambda self, name, data: (copied.append(name), write(self, name, data)))
    copy_of(str(tmp_path / "there"), tmp_path / "here")
    assert copied == ["labels.parquet", "rounds.jsonl", "outcome.json"]


def test_records_of_another_sweep_are_not_taken_up(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = make("a", pool={"kind": "local", "storage": "shared"})
    assert first.records == str(tmp_path / "shared" / "a")  # whatever the working folder of a worker
    sweep(first)
    assert first.known()
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(RunFolderError, match="holds the records of another sweep"):
        make("a", pool={"kind": "local", "storage": "shared"})
    assert not (tmp_path / "a").exists()
    sweep(SweepFolder.open(tmp_path / "b"))


def test_a_sweep_that_never_began_leaves_the_place_of_its_records_free(make, tmp_path):
    for _ in range(2):
        folder = make("a", pool={"kind": "local", "storage": str(tmp_path / "shared")})
        folder.discard_if_nothing_ran()
    assert not folder.path.exists()


def test_a_sweep_of_which_a_trial_began_is_kept(make):
    folder = make()
    folder.begin(folder.study.trials()[0])
    folder.discard_if_nothing_ran()
    assert folder.path.exists()


# --- on Ray ---


@pytest.fixture(scope="module")
def ray_two_cpus():
    """One Ray for the tests of this file, with its dashboard; sweeps find it there and leave it running."""
    from distclust import RayPool

    with RayPool(num_cpus=2, dashboard=True) as pool:
        pool.connect()
        yield


def titles():
    """Process id -> what it does, of the processes that Ray started for us."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with_title(process, found)
    return found


def with_title(process, found):
    try:
        line = process.cmdline()
    except psutil.Error:
        return
    if line and line[0].startswith("ray::"):
        found[process.pid] = line[0].removeprefix("ray::")


@contextmanager
def meanwhile(what):
    """Run something in a thread, and end with it."""
    failures = []

    def run():
        try:
            what()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()
    if failures:
        raise failures[0]


def state(what):
    """What Ray's dashboard shows of actors or tasks."""
    import ray
    from ray.util import state

    address = ray.get_runtime_context().gcs_address  # there may be other Rays on this machine
    return getattr(state, f"list_{what}")(address=address, limit=10_000, detail=True)


def all_cpus_free():
    import ray

    gc.collect()
    return ray.available_resources().get("CPU") == 2


def slow(test):
    """Mark a test that starts processes; a machine may have other work to do."""
    return pytest.mark.slow(pytest.mark.timeout(1200)(test))


@slow
def test_a_sweep_on_ray_equals_one_in_this_process(make, ray_two_cpus):
    space = {"support": {"grid": ["greedy", "none"]}, "random_state": {"seeds": 2}}
    there = make(n_members=2, space=space)
    found = sweep(there)
    assert [setting.n_ended for setting in found] == [2, 2]
    assert_same(there, in_this_process(make, n_members=2, space=space))


@slow
def test_a_killed_process_costs_its_round_and_nothing_else(make, ray_two_cpus):
    folder, told, kept = make(base=LONG, space={"random_state": {"seeds": 2}}), [], {}
    first = folder.study.trials()[0]
    record = Record(folder.record(first))

    def kill():
        wait_for(lambda: len(record.rounds()) > 2, "rounds of the first trial")
        (pid,) = wait_for(lambda: [pid for pid, title in titles().items() if title == first.title], first.title)
        process = psutil.Process(pid)
        process.kill()
        psutil.wait_procs([process])
        kept["lines"] = record.rounds()

    with meanwhile(kill):
        sweep(folder, restarted=lambda trial, cause: told.append((trial.title, cause)))
    ((title, cause),) = told
    assert title == first.title
    assert "died" in cause
    assert len(kept["lines"]) < 20
    assert record.rounds()[: len(kept["lines"]) - 1] == kept["lines"][:-1]  # the seconds too: they were not redone
    assert_same(folder, in_this_process(make, LONG, space={"random_state": {"seeds": 2}}))


@slow
def test_a_trial_whose_process_always_dies_is_a_row_with_its_cause(make, ray_two_cpus):
    folder, told = make(base=LONG, pool={"retries": 1}, space={"random_state": {"seeds": 2}}), []
    doomed, other = folder.study.trials()

    def kill():
        while folder.outcome(doomed) is None:
            for pid, title in titles().items():
                if title == doomed.title:
                    with suppress(psutil.NoSuchProcess):
                        psutil.Process(pid).kill()
            time.sleep(0.01)

    with meanwhile(kill):
        sweep(folder, restarted=lambda trial, cause: told.append(trial.title))
    assert folder.outcome(other).status == "finished"
    assert set(told) == {doomed.title}
    given = folder.outcome(doomed)
    assert given.status == "failed"
    assert given.cause.startswith("its process died 2 times within a round: ")
    assert f"failed: {given.cause}" in (folder.path / "table.md").read_text()
    sweep(SweepFolder.open(folder.path))  # nothing kills it now
    assert_same(folder, in_this_process(make, LONG, space={"random_state": {"seeds": 2}}))


@slow
def test_a_process_that_dies_between_two_trials_costs_none_of_them(make, ray_two_cpus):
    """Ray Tune gives up the trial that it had meant for it."""
    folder, killed = make(base=STUDY, space={"random_state": {"seeds": 4}}, study={"concurrent": 1}), []

    def done(trial, outcome):
        if not killed:
            killed.extend(pid for pid, title in titles().items() if title.startswith(("sweep", "combination")))
            for pid in killed:
                psutil.Process(pid).kill()

    sweep(folder, done)
    assert killed
    assert [outcome.status for _, outcome in folder.known()] == ["finished"] * 4


@slow
def test_trials_with_workers_of_their_own(make, ray_two_cpus):
    """Four members of a trial on two workers, which stay for the next trial and are in the trial's placement group."""
    workers = {"n_members": 4, "study": {"workers": 2}}
    before = {actor.actor_id for actor in state("actors")}
    folder = make(base=LONG, space={"random_state": {"seeds": 2}}, **workers)
    sweep(folder)
    mine = [actor for actor in state("actors") if actor.actor_id not in before]
    (trials,) = [actor for actor in mine if actor.class_name == "sweep"]  # both trials
    members = [actor for actor in mine if actor.class_name == "RayWorker"]
    assert len(members) == 2
    assert len(mine) == 3
    assert {actor.placement_group_id for actor in mine} == {trials.placement_group_id}
    assert trials.placement_group_id
    wait_for(lambda: all(a.state == "DEAD" for a in state("actors")), "the end of all actors")
    wait_for(all_cpus_free, "free CPUs")
    local = in_this_process(make, LONG, n_members=4, space={"random_state": {"seeds": 2}})
    assert_same(folder, local)


@slow
def test_ray_shows_trials_and_members_by_their_titles(make, ray_two_cpus):
    sweep(
        make(
            "plain",
            space={"sigma": {"grid": [50, 100]}, "random_state": {"seeds": 1}},
            study={"objective": "effective_clusters"},
        )
    )
    sweep(make("ensemble", n_members=2, study={"workers": 2}))
    wanted = {"combination/digits/50/seed0", "combination/digits/100/seed0", "combination/digits/seed1"}
    wanted |= {f"combination/digits/seed{seed}/member{member:02d}" for seed in (0, 1) for member in (0, 1)}
    wait_for(lambda: wanted <= {task.name for task in state("tasks")}, wanted, 60)


@slow
def test_a_search_by_optuna_goes_on_and_runs_nothing_twice(make, ray_two_cpus):
    space, study = (
        {"sigma": {"log-uniform": [1, 1000]}},
        {"search": "optuna", "objective": "effective_clusters", "n_trials": 5},
    )
    folder, seen = make(base=LONG, space=space, study=study), []

    def breaks_off(trial, outcome):
        seen.append(trial.name)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        sweep(folder, breaks_off)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Tune leaves the files of trials that it stops open
        gc.collect()
    begun = {trial.name: Record(folder.record(trial)).rounds() for trial in folder.trials()}
    stored = {name: stamp(folder, name) for name in seen}
    wait_for(all_cpus_free, "free CPUs")  # what was interrupted holds nothing
    again = []
    sweep(SweepFolder.open(folder.path), lambda trial, outcome: again.append(trial.name))
    assert len(again) == len(set(again)) == 4
    assert not set(again) & set(seen)
    assert set(begun) <= {*again, *seen}
    assert {name: stamp(folder, name) for name in seen} == stored
    for name, lines in begun.items():
        assert Record(folder.path / "trials" / name).rounds()[: len(lines)] == lines
    sweep(SweepFolder.open(folder.path), lambda trial, outcome: pytest.fail("all are done"))
    assert len(folder.known()) == 5


def stamp(folder, name):
    return (folder.path / "trials" / name / "outcome.json").stat().st_mtime_ns


@slow
def test_asha_stops_trials_that_are_behind(make, ray_two_cpus):
    space = {"n_clusters": {"grid": [10, 5, 4, 3]}}  # the last has fewer in effect than any other had
    study = {"objective": "effective_clusters", "scheduler": "asha"}
    folder = make(n_epochs=9, n_rounds=9, space=space, study=study)
    sweep(folder)
    ended = {trial.values["n_clusters"]: outcome for trial, outcome in folder.known()}
    assert {outcome.status for outcome in ended.values()} == {"finished", "stopped"}
    assert ended[3].status == "stopped"
    for trial, found in folder.known():
        assert found.figures["effective_clusters"] > 1
        assert found.n_rounds == len(Record(folder.record(trial)).rounds())
        assert (found.n_rounds == 9) == (found.status == "finished")
        assert len(folder.labels(trial)) == 600
        assert not any((folder.record(trial) / "members").iterdir())
    sweep(SweepFolder.open(folder.path), lambda trial, outcome: pytest.fail("all are done"))


# --- the command, interrupted ---


@pytest.fixture(scope="module")
def through(tmp_path_factory):
    path = tmp_path_factory.mktemp("through")
    (path / "long.yaml").write_text(yaml.safe_dump(LONG))
    folder = SweepFolder.create(path / "sweep", read_study(path / "long.yaml", ["pool.kind=local"]))
    sweep(folder)
    return folder


def in_the_middle(folder):
    """Whether a trial has ended and another has some rounds behind it."""
    if not (folder / "study.yaml").is_file():
        return False
    found = SweepFolder.open(folder)
    some = [len(Record(found.record(trial)).rounds()) for trial in found.study.trials() if found.record(trial).is_dir()]
    return bool(found.known()) and any(2 < n < 18 for n in some)


@slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda how: how.name)
def test_an_interrupted_sweep_is_resumed_to_the_same_table(how, through, tmp_path, ray_two_cpus):
    (tmp_path / "long.yaml").write_text(yaml.safe_dump({**LONG, "pool": {"num_cpus": 2}}))
    words = [sys.executable, "-m", "distclust.run", "sweep", str(tmp_path / "long.yaml"), "--out", str(tmp_path / "s")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        wait_for(lambda: in_the_middle(tmp_path / "s") or process.poll() is not None, "rounds", 900)
        assert process.poll() is None
        started = psutil.Process(process.pid).children(recursive=True)
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does
        else:
            process.send_signal(how)
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
    ours = [p for p in started if how != signal.SIGKILL or not agent(p)]
    _, alive = psutil.wait_procs(ours, timeout=120)
    assert not alive
    folder = SweepFolder.open(tmp_path / "s")
    if how != signal.SIGKILL:
        assert process.returncode == 130, err
        assert err.strip().endswith(f"Continue with:\n  python -m distclust.run sweep --resume {tmp_path / 's'}")
        assert err.strip().startswith("distclust: interrupted with ")
        assert not list(folder.path.rglob("*.part"))
    ended = {trial.name: stamp(folder, trial.name) for trial, _ in folder.known()}
    begun = {
        trial.name: Record(folder.record(trial)).rounds() for trial in folder.trials() if folder.record(trial).is_dir()
    }
    assert 0 < len(ended) < len(begun)
    assert main(["sweep", "--resume", str(folder.path)]) == 0
    assert_same(folder, through)
    assert {name: stamp(folder, name) for name in ended} == ended
    for name, lines in begun.items():  # the seconds too: no round that was finished was redone
        finished = len(lines) if name in ended else max(0, len(lines) - 1)
        assert Record(folder.path / "trials" / name).rounds()[:finished] == lines[:finished]


def agent(process):
    """Whether it is one of the two helpers of Ray that notice only after a minute that their Ray was killed."""
    try:
        return process.cmdline()[0] in ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
    except (psutil.Error, IndexError):
        return False
