"""Clusters: the launcher's files say what the README promises, and runs across several raylets equal local ones."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
import yaml

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
cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=0, _system_config=quick, **small))
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
        for process in of_folder(path):
            process.kill()


@pytest.fixture
def environment(folder):
    """An environment as on a node, with a token of its own; nothing of other Rays on this machine is in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    own = {"HOME": str(folder), "RAY_TMPDIR": str(folder), "RAY_AUTH_MODE": "token", "OMP_NUM_THREADS": "1"}
    environment = {**kept, **own, "PATH": f"{BIN}:{kept['PATH']}"}
    call(environment, "ray", "get-auth-token", "--generate")
    return environment


def call(environment, *words):
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def of_folder(folder):
    """The processes that have this folder in their command line, but this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in " ".join(process.cmdline()) and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_a_run_on_three_raylets_one_of_which_dies_equals_a_local_one(environment, folder):
    out = call(environment, sys.executable, "-c", NODE_DIES, str(folder / "members")).splitlines()[-1]
    expected = {"same": True, "nodes": [2, 1, 1], "on the survivor": True, "restarted": True, "lost": 0}
    assert json.loads(out) == expected
