"""The examples of running the shipper beside the workers: they are what their readers expect, and so are ours."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path

import pytest
import yaml

from livekit_costmeter.cli.ship import ship
from livekit_costmeter.config.schema import Settings

EXAMPLES = Path(__file__).parents[2] / "examples"


def parse_command(words):
    """Parse a command line of ours, whose program may be given by its path."""
    assert Path(words[0]).name == "costmeter"
    assert words[1] == "ship"
    return ship.make_context("ship", list(words[2:]), resilient_parsing=False).params


@pytest.fixture
def unit():
    """Read the systemd unit."""
    parser = configparser.ConfigParser(strict=True, interpolation=None, delimiters=("=",))
    parser.optionxform = str
    parser.read(EXAMPLES / "systemd/costmeter-ship.service")
    return parser


def test_systemd_unit_runs_the_daemon_and_lets_it_end(unit):
    """The command exists with these options, and systemd waits longer than the daemon's own deadline."""
    assert set(unit) == {"DEFAULT", "Unit", "Service", "Install"}
    service = unit["Service"]
    options = parse_command(shlex.split(service["ExecStart"]))
    assert options["watch"]
    assert options["deadline"] < float(service["TimeoutStopSec"])
    assert (service["KillSignal"], service["Restart"], service["RestartPreventExitStatus"]) == (
        "SIGTERM",
        "always",
        "2",
    )
    assert unit["Install"]["WantedBy"] == "multi-user.target"


@pytest.fixture
def manifests():
    """Read the Kubernetes manifests by kind."""
    documents = yaml.safe_load_all((EXAMPLES / "kubernetes/agent-with-shipper.yaml").read_text())
    return {document["kind"]: document for document in documents}


def test_sidecar_ships_the_spool_of_the_worker(manifests):
    """Both mount the same volume where the configuration has its spool, as the same user, under the same settings."""
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    (sidecar,), (worker,) = pod["initContainers"], pod["containers"]
    settings = yaml.safe_load(manifests["ConfigMap"]["data"]["costmeter.yaml"])
    spool = Path(Settings.model_validate(settings).spool.dir)
    for container in (sidecar, worker):
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert spool.is_relative_to(mounts["spool"])
        assert "securityContext" not in container
    assert sidecar["env"] == worker["env"]
    assert {volume["name"] for volume in pod["volumes"]} == {"spool", "costmeter"}


def test_sidecar_outlives_the_worker_and_ends_in_time(manifests):
    """An init container that restarts is stopped last; its deadline is within the pod's grace."""
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    (sidecar,) = pod["initContainers"]
    options = parse_command(sidecar["command"])
    assert (sidecar["restartPolicy"], options["watch"]) == ("Always", True)
    assert options["deadline"] < pod["terminationGracePeriodSeconds"]
    assert manifests["Deployment"]["spec"]["selector"]["matchLabels"] == {"app": "agent"}
