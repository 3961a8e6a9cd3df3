"""Keys that can be found in any disguise, and one run of a whole agent that used them."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

CHILDREN = Path(__file__).parent / "children"
ROOT = Path(__file__).parents[2]
NAMES = (
    *("openai-llm", "openai-responses", "openai-realtime", "openai-stt", "openai-tts"),
    *("deepgram-stt", "deepgram-sttv2", "deepgram-tts", "cartesia-stt", "cartesia-tts"),
    *("inference", "inference-secret", "talkative"),
)
CONFIG = """
keys:
  - {owner: platform, env: OPENAI_API_KEY}
spool: {dir: spool}
sinks:
  - {type: sqlite, path: ledger.db}
  - {type: jsonl, path: ledger.jsonl}
  - {type: stdout}
  - {type: leaky, dsn: "${DSN}"}
  - {type: picky, dsn: "${DSN}"}
"""
WINDOW = 12


def make_key(name):
    """Make a key with characters that JSON and URLs escape, so that every disguise differs."""
    return f'KEY{name.upper()}-{secrets.token_hex(10)}+/"{secrets.token_hex(6)}'


def disguises(key):
    """Write a key in the ways in which it may reach a file: plain, escaped, URL-encoded, in base64 at any offset."""
    raw = key.encode()
    yield raw
    yield json.dumps(key)[1:-1].encode()
    yield quote(key, "").encode()
    yield quote_plus(key).encode()
    yield repr(json.dumps(key))[1:-1].encode()
    for shift in range(3):
        for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
            # The first and last group also hold bits of their neighbours.
            yield encode(bytes(shift) + raw)[4:-4]


def pieces(key):
    """Return every piece of twelve characters of every disguise."""
    return {text[at : at + WINDOW] for text in disguises(key) for at in range(len(text) - WINDOW + 1)}


def leaks(content, keys):
    """Name the keys of which a piece stands in some bytes."""
    return sorted(name for name, key in keys.items() if any(piece in content for piece in pieces(key)))


@dataclass(frozen=True)
class Run:
    """What an agent's process left: its directory, its keys, and what it said on its standard streams."""

    directory: Path
    keys: dict[str, str]
    password: str
    environ: dict[str, str]

    @property
    def out(self):
        """The directory of logs and reprs."""
        return self.directory / "out"

    @property
    def secret(self):
        """The deployment's secret, from the file in the spool."""
        return (self.directory / "spool/secret").read_bytes()

    def written(self):
        """Return every file that we wrote: everything but the log of others, and standard error, which is theirs."""
        files = [path for path in self.directory.rglob("*") if path.is_file() and "site" not in path.parts]
        return {path: path.read_bytes() for path in files if path.name not in ("theirs.log", "stderr")}

    def command(self, *arguments, said=""):
        """Run the command line where the agent ran, with something on its standard input."""
        return subprocess.run(
            [sys.executable, "-m", "livekit_costmeter", *arguments],
            input=said.encode(),
            capture_output=True,
            cwd=self.directory,
            env=self.environ,
            timeout=30,
            check=False,
        )


def install_leaky_sinks(site):
    """Lay out a package that declares sinks which quote their address; return the directory to import it from."""
    metadata = site / "leaky-1.dist-info"
    metadata.mkdir(parents=True)
    shutil.copy(CHILDREN / "leaky.py", site)
    kinds = "leaky = leaky:Leaky\npicky = leaky:Picky\nunmakeable = leaky:Unmakeable\n"
    (metadata / "entry_points.txt").write_text(f"[livekit_costmeter.sinks]\n{kinds}")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: leaky\nVersion: 1\n")
    return site


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Run an agent that uses every plugin, once served and once refused, with the real installed pipeline."""
    directory = tmp_path_factory.mktemp("secrecy")
    (directory / "out").mkdir()
    (directory / "costmeter.yaml").write_text(CONFIG)
    keys = {name: make_key(name) for name in NAMES}
    password = secrets.token_hex(10)
    places = (str(ROOT), str(install_leaky_sinks(directory / "site")))
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environ = {
        **kept,
        "PYTHONPATH": os.pathsep.join(places),
        "OUT": str(directory / "out"),
        "OPENAI_API_KEY": keys["openai-llm"],
        "DSN": f"postgres://app:{password}@127.0.0.1:1/ledger",
    }
    with (directory / "out/stdout").open("wb") as out, (directory / "out/stderr").open("wb") as err:
        subprocess.run(
            [sys.executable, str(CHILDREN / "agent.py")],
            input=json.dumps(keys).encode(),
            stdout=out,
            stderr=err,
            cwd=directory,
            env=environ,
            timeout=50,
            check=True,
        )
    return Run(directory, keys, password, environ)


@pytest.fixture
def leaky_sinks(tmp_path, monkeypatch):
    """Make sinks that quote their address known to this process."""
    monkeypatch.syspath_prepend(str(install_leaky_sinks(tmp_path / "site")))


@pytest.fixture
def find_leaks():
    """Hand out the search for pieces of keys."""
    return leaks
