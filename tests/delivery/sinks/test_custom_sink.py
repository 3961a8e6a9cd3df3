"""The example of a third party's sink, installed as third parties' users do."""

import json
import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "custom_sink"
SCRIPT = ROOT / "tests" / "delivery" / "children" / "one_reply.py"


def run(*command, cwd):
    """Run a command that has to succeed; return what it printed."""
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    parts = [str(part) for part in command]
    done = subprocess.run(parts, capture_output=True, text=True, check=False, cwd=cwd, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Make a fresh environment with the example in it; what it depends on is borrowed from this one."""
    folder = tmp_path_factory.mktemp("environment")
    uv = shutil.which("uv") or Path(sys.executable).parent / "uv"
    run(uv, "venv", "--offline", "--python", sys.executable, folder / "venv", cwd=folder)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
    (packages / "borrowed.pth").write_text("\n".join(lines) + "\n")
    shutil.copytree(EXAMPLE, folder / "example", ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--offline", "--no-deps", "--no-build-isolation", "--python", folder / "venv"]
    run(uv, "pip", "install", *options, "./example", cwd=folder)
    return folder


@pytest.fixture
def python(environment):
    """Name the environment's interpreter."""
    return environment / "venv" / "bin" / "python"


def test_its_own_tests_pass_where_it_is_installed(environment, python):
    """The example holds itself to the contract, as the README of the example says."""
    options = ["-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error"]
    assert "4 passed" in run(python, "-m", "pytest", *options, "example", cwd=environment)


def test_yaml_is_all_that_it_takes(python, tmp_path):
    """A script with one added line meters into the journal, and reports are read from it."""
    (tmp_path / "costmeter.yaml").write_text("sinks: [{type: journal, path: ./costs.journal}]\n")
    costmeter = [python, "-m", "livekit_costmeter"]
    assert "costs.journal" in run(*costmeter, "check", cwd=tmp_path)
    run(python, SCRIPT, cwd=tmp_path)
    report = json.loads(run(*costmeter, "report", "--by", "component,model", "--format", "json", cwd=tmp_path))
    assert [row["key"] for row in report["rows"]] == [{"component": "llm", "model": "gpt-4o-mini"}]
    assert report["rows"][0]["records"] == 1
    lines = (tmp_path / "costs.journal").read_text().splitlines()
    assert {line[51:81].strip() for line in lines} == {"openai/gpt-4o-mini"}


def test_sink_is_unknown_where_it_is_not_installed(tmp_path):
    """Nothing but the installed entry point makes the type known."""
    (tmp_path / "costmeter.yaml").write_text("sinks: [{type: journal, path: ./costs.journal}]\n")
    command = [sys.executable, "-m", "livekit_costmeter", "check"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 2
    assert "unknown sink type 'journal'" in done.stderr
