"""Clusters: the launcher's files say what the README promises, and runs across several raylets equal local ones."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import psutil
import pytest
import yaml

pytestmark = pytest.mark.xdist_group("ray")  # one at a time: they start Rays and kill what is in them

ROOT = Path(__file__).parents[1]
AWS, ON_PREMISES = ROOT / "cluster.yaml", ROOT / "clusters" / "on-premises.yaml"
FILES = [AWS, ON_PREMISES]
BIN = Path(sys.executable).parent  # where `ray` is
COMMANDS = ("setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")

each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def commands(path):
    return [line for kind in COMMANDS for line in read(path).get(f"{kind}_commands", [])]


def start(path, node):
    """The line that starts Ray on a head or worker."""
    (line,) = [line for line in read(path)[f"{node}_start_ray_commands"] if "ray start" in line]
    return line


@each_file
def test_ray_accepts_the_file(path, capsys):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(read(path))
    validate_config(config)
    assert config["head_node_type"] in config["available_node_types"]


def test_all_files_for_the_launcher_are_tested():
    assert [AWS, *sorted((ROOT / "clusters").iterdir())] == FILES


def test_what_is_to_be_filled_in_is_named_and_little():
    found = {path.stem: set(re.findall(r"\bFILL_IN_\w+", path.read_text(encoding="utf-8"))) for path in FILES}
    workers = {"FILL_IN_WORKER_1", "FILL_IN_WORKER_2"}
    assert found == {
        "cluster": {"FILL_IN_IMAGE", "FILL_IN_BUCKET"},
        "on-premises": {"FILL_IN_HEAD", "FILL_IN_USER", "FILL_IN_SHARED_FOLDER", *workers},
    }


@each_file
def test_nothing_is_left_to_the_launchers_defaults(path):
    """On AWS those install a nightly Ray and open the dashboard."""
    config = read(path)
    for kind in ("setup", "head_start_ray", "worker_start_ray"):
        assert config[f"{kind}_commands"]


@each_file
def test_the_token_is_asked_for_and_reaches_every_node(path):
    assert read(path)["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert all(re.search(r"RAY_AUTH_MODE=token .*ray start", start(path, node)) for node in ("head", "worker"))
    assert any("export RAY_AUTH_MODE=token" in line for line in commands(path))


@each_file
def test_the_dashboard_listens_on_the_head_alone(path):
    assert "--dashboard-host=127.0.0.1" in start(path, "head")
    assert "0.0.0.0" not in path.read_text(encoding="utf-8")
    assert set(read(path)["provider"].get("security_group", {})) <= {"GroupName"}  # no port is opened beside ssh


@each_file
def test_head_and_workers_meet_at_one_port(path):
    (port,) = re.findall(r"--port=(\d+)", start(path, "head"))
    assert f"--address=$RAY_HEAD_IP:{port} " in start(path, "worker")
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start(path, "head")


@each_file
def test_the_environment_is_that_of_the_repository(path):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "make -C ~/distclust .venv/ready" in commands(path)
    assert re.search(r"^BIN := \.venv/bin\nREADY := \.venv/ready$", makefile, flags=re.MULTILINE)
    assert "--constraint constraints.txt" in makefile
    assert re.search(r"^ray==\d", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    for line in commands(path):
        if "pip install" in line:  # what is beside the repository's has its version in the line
            words = [word for word in line.split("pip install")[1].split() if not word.startswith("-")]
            assert all(re.fullmatch(r"[\w-]+==[\d.]+", word) for word in words), line


@each_file
def test_what_is_copied_is_there_and_is_what_the_environment_needs(path):
    copied = {k: v for k, v in read(path)["file_mounts"].items() if not v.startswith("~")}
    assert all(remote == f"~/distclust/{local}" and (ROOT / local).exists() for remote, local in copied.items())
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert {"distclust", "Makefile", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"} <= set(
        copied.values()
    )
    assert 'readme = "README.md"' in project
    assert 'license-files = ["LICENSE"]' in project


@each_file
def test_all_nodes_know_the_shared_storage(path):
    assert any("export DISTCLUST_STORAGE=" in line for line in read(path)["setup_commands"])


def test_aws_has_a_plain_head_and_spot_workers_with_gpus():
    config = read(AWS)
    types = config["available_node_types"]
    head, worker = types.pop(config["head_node_type"]), types.pop("gpu-worker")
    assert not types
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert worker["resources"]["GPU"] >= 1
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert worker["min_workers"] == 0 < worker["max_workers"] <= config["max_workers"]
    assert config["idle_timeout_minutes"] > 0
    for node in (head["node_config"], worker["node_config"]):  # the bucket is read and written from all of them
        assert set(node) >= {"InstanceType", "ImageId", "IamInstanceProfile", "BlockDeviceMappings"}
    assert config["provider"]["cache_stopped_nodes"] is False


def test_both_files_copy_and_set_up_the_same():
    aws, local = read(AWS), read(ON_PREMISES)
    assert aws["file_mounts"] == local["file_mounts"]
    assert [line for line in local["setup_commands"] if "STORAGE" not in line] == [
        line for line in aws["setup_commands"] if not re.search(r"STORAGE|apt-get|cloud-init", line)
    ]


# --- for real, on loopback ---

NODE_DIES = """
import json, sys, time
import numpy as np
import ray
from ray.cluster_utils import Cluster
from distclust import CombinationAssignment, LocalPool, RayPool, load

def node_of(worker):
    return ray.get_runtime_context().get_node_id()

class Watched(RayPool):
    def advance(self, agreed, round):
        if round == 1:
            first.kill_raylet()  # as a spot instance goes
            while sum(node["Alive"] for node in ray.nodes()) == 3:
                time.sleep(0.2)
        found = super().advance(agreed, round)
        if round == 0:
            self.wait_for_workers()
        nodes.append(sorted(ray.get([w.actor.__ray_call__.remote(node_of) for w in self._workers])))
        return found

def labels(model):
    return [model.labels_, model.agreement_, *(output.labels for output in model.last_round_.outputs)]

quick = dict(health_check_initial_delay_ms=0, health_check_period_ms=500, health_check_timeout_ms=500,
             health_check_failure_threshold=2)
small = dict(include_dashboard=False, object_store_memory=100 * 2**20)
head = dict(num_cpus=0, dashboard_port=int(sys.argv[2]), _system_config=quick, **small)
cluster = Cluster(initialize_head=True, head_node_args=head)
first, second = [cluster.add_node(num_cpus=1, **small) for _ in range(2)]
x = load("digits", n_samples=600).x
method = CombinationAssignment(n_clusters=10, n_members=3, n_rounds=3, n_epochs=3)
here = labels(method.fit(x, pool=LocalPool()))
events, nodes = [], []
with Watched(address=cluster.address, storage=sys.argv[1], listener=events.append) as pool:
    there = labels(method.fit(x, pool=pool))
cluster.shutdown()
print(json.dumps({
    "same": all(np.array_equal(a, b) for a, b in zip(here, there, strict=True)),
    "nodes": [len(set(n)) for n in nodes],
    "on the survivor": nodes[-1] == [second.node_id],
    "restarted": sum(e.kind == "restarted" for e in events) > 0,
    "lost": sum(e.kind == "lost" for e in events),
}))
"""


@pytest.fixture
def folder():
    """A folder with a short name, as the paths of sockets may have 107 letters."""
    with TemporaryDirectory(prefix="dc-", ignore_cleanup_errors=True) as path:
        yield Path(path)
        end_all_of(path)


@pytest.fixture
def environment(folder):
    """An environment as on a node, with a token of its own; nothing of other Rays on this machine is in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    own = {"HOME": str(folder), "RAY_TMPDIR": str(folder), "RAY_AUTH_MODE": "token", "OMP_NUM_THREADS": "1"}
    own["RAY_raylet_start_wait_time_s"] = "300"  # the machine may have other work to do
    environment = {**kept, **own, "PATH": f"{BIN}:{kept['PATH']}"}
    call(environment, "ray", "get-auth-token", "--generate")
    return environment


def call(environment, *words):
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def free_ports(n):
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def of_folder(folder):
    """The processes that have this folder in their command line, or as their home, but this one."""
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and is_of(process, str(folder))]


def is_of(process, folder):
    try:
        return folder in " ".join(process.cmdline()) or process.environ().get("HOME") == folder
    except psutil.Error:
        return False


def end_all_of(folder):
    """End the processes of this folder and those that they started: workers have other command lines."""
    started = [[process, *children(process)] for process in of_folder(folder)]
    found = {process.pid: process for family in started for process in family if process.pid != os.getpid()}.values()
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(found, timeout=60)


def children(process):
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


@pytest.mark.slow
def test_a_run_on_three_raylets_one_of_which_dies_equals_a_local_one(environment, folder):
    out = call(
        environment, sys.executable, "-c", NODE_DIES, str(folder / "members"), *map(str, free_ports(1))
    ).splitlines()[-1]
    expected = {"same": True, "nodes": [2, 1, 1], "on the survivor": True, "restarted": True, "lost": 0}
    assert json.loads(out) == expected


SWEEP_NODE_DIES = """
import json, sys, threading, time
from pathlib import Path
import ray
import yaml
from ray.cluster_utils import Cluster
from distclust.errors import InputError
from distclust.results import Record
from distclust.sweep import SweepFolder, read_study, sweep

here = Path(sys.argv[1])
study = {
    "method": "combination", "support": "sinkhorn", "dataset": {"name": "digits", "n_samples": 600},
    "n_epochs": 60, "n_rounds": 20, "space": {"random_state": {"seeds": 4}},
}

def create(name, **pool):
    (here / f"{name}.yaml").write_text(yaml.safe_dump({**study, "pool": pool}))
    return SweepFolder.create(here / name, read_study(here / f"{name}.yaml"))

def content(folder):
    return {trial.name: (folder.record(trial) / "labels.parquet").read_bytes() for trial, _ in folder.known()}

def table(folder):
    cells = [line.split("|") for line in (folder.path / "table.md").read_text().splitlines() if line.startswith("|")]
    place = [cell.strip() for cell in cells[0]].index("seconds")
    return [[cell.strip() for cell in row[:place] + row[place + 1:]] for row in cells[:1] + cells[2:]]

def rounds(folder, trial):
    return Record(f"{folder.records}/{trial.name}").rounds()

def kill():
    while sum(len(rounds(there, trial)) > 2 for trial in trials) < 2:  # one on each node
        time.sleep(0.05)
    first.kill_raylet()  # as a spot instance goes
    while sum(node["Alive"] for node in ray.nodes()) == 3:
        time.sleep(0.05)
    before.update({trial.name: rounds(there, trial) for trial in trials})

quick = dict(health_check_initial_delay_ms=0, health_check_period_ms=500, health_check_timeout_ms=500,
             health_check_failure_threshold=2)
small = dict(include_dashboard=False, object_store_memory=100 * 2**20)
head = dict(num_cpus=0, dashboard_port=int(sys.argv[2]), _system_config=quick, **small)
cluster = Cluster(initialize_head=True, head_node_args=head)
first, second = [cluster.add_node(num_cpus=1, **small) for _ in range(2)]
here.mkdir()
local = create("local", kind="local")
sweep(local)
try:
    sweep(create("alone", address=cluster.address))
except InputError as error:
    refused = str(error)
there = create("there", address=cluster.address, storage=str(here / "shared"))
trials, before, restarted, ended = there.study.trials(), {}, [], []
killer = threading.Thread(target=kill)
killer.start()
sweep(there, lambda trial, outcome: ended.append(trial.name), restarted=lambda trial, cause: restarted.append(cause))
killer.join()
cluster.shutdown()
print(json.dumps({
    "same labels": content(there) == content(local),
    "same table": table(there) == table(local),
    "statuses": [outcome.status for _, outcome in there.known()],
    "ended": len(ended) == len(set(ended)) == 4,
    "restarted": len(restarted) > 0,
    "rounds kept": all(rounds(there, t)[: max(0, len(before[t.name]) - 1)] == before[t.name][:-1] for t in trials),
    "refused": refused,
}))
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_sweep_on_three_raylets_one_of_which_dies_equals_a_local_one(environment, folder):
    out = call(
        environment, sys.executable, "-c", SWEEP_NODE_DIES, str(folder / "here"), *map(str, free_ports(1))
    ).splitlines()[-1]
    assert json.loads(out) == {
        "same labels": True,
        "same table": True,
        "statuses": ["finished"] * 4,
        "ended": True,
        "restarted": True,
        "rounds kept": True,
        "refused": "the cluster has several nodes: give pool.storage, a place that all of them share.",
    }


@pytest.fixture
def cluster(environment, folder):
    """The addresses of a head without CPUs, joined by a worker that has two and does not see the folder head/."""
    (folder / "head").mkdir()
    gcs, dashboard, client, *agents = free_ports(5)
    head = ["ray", "start", "--head", f"--port={gcs}", f"--dashboard-port={dashboard}", "--num-cpus=0"]
    head += [f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agents[0]}"]
    out = call(environment, *head, f"--temp-dir={folder}/ray", "--disable-usage-stats")
    address = re.search(r"--address='([^']+)'", out)[1]
    worker = ["ray", "start", f"--address={address}", "--num-cpus=2", f"--dashboard-agent-listen-port={agents[1]}"]
    own = ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs none {folder}/head && exec "$@"', "sh"]
    blind = subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
    call(environment, *(own if blind else []), *worker, "--disable-usage-stats")
    return SimpleNamespace(address=address, dashboard=f"http://127.0.0.1:{dashboard}")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_and_a_sweep_as_jobs_equal_local_ones(cluster, environment, folder):
    """As the README has it: ray start on each machine, then ray job submit, with a token."""
    study = folder / "study.yaml"
    keys = ["method=combination", "support=sinkhorn", "dataset.n_samples=600", "n_epochs=3", "n_rounds=3"]
    study.write_text("method: combination\nspace: {random_state: {seeds: 2}, sigma: {grid: [50, 100]}}\n")
    commands = {"run": [*keys, "n_members=3"], "sweep": ["sweep", str(study), *keys]}
    for name, words in commands.items():
        run = [sys.executable, "-m", "distclust.run", *words]
        there = " ".join(["cd", str(ROOT), "&&", *run, f"pool.storage={folder}/shared", f"--out {folder}/head/{name}"])
        out = call(environment, "ray", "job", "submit", "--address", cluster.dashboard, "--", "bash", "-c", there)
        assert "succeeded" in out
        call(environment, *run, "pool.kind=local", "--out", str(folder / "local" / name))
    for path in sorted((folder / "local").rglob("labels.parquet")):
        assert path.read_bytes() == (folder / "head" / path.relative_to(folder / "local")).read_bytes()
    assert len(list((folder / "head").rglob("labels.parquet"))) == 5
    jobs = json.loads(call(environment, "ray", "list", "jobs", "--address", cluster.dashboard, "--format", "json"))
    assert [job["status"] for job in jobs] == ["SUCCEEDED"] * 2

    refused_without_token(cluster.address, environment, folder, study)


def refused_without_token(address, environment, folder, study):
    blank = {**environment, "HOME": str(folder / "local"), "RAY_AUTH_MODE": "disabled"}
    words = [sys.executable, "-m", "distclust.run", "sweep", str(study), f"pool.address={address}"]
    words += [f"pool.storage={folder}/shared", "--out", f"{folder}/out"]
    done = subprocess.run(words, env=blank, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("distclust: ")]  # Ray logs before it
    assert message.startswith(f"distclust: cannot connect to the Ray cluster at '{address}'")
    assert "RAY_AUTH_MODE=token" in message
    assert "Traceback" not in done.stderr
    assert not (folder / "out").exists()
