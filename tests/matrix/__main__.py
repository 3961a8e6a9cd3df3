"""
The suite against LiveKit's versions, oldest to newest: `python -m tests.matrix [VERSION...]`.

Each version gets an environment of its own in `.matrix/`, set up here. Invariant: nothing differs between two of them
but LiveKit, its plugins and what these need otherwise; every other pin of `constraints.txt` is kept. The exit code is 1
if a test failed anywhere or an environment could not be made.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".matrix"
NEWEST = "newest"
"""The newest version on the index that the project allows, pinned or not."""
VERSIONS = ("1.5.17", "1.6.6", "1.7.0", "1.8.0", NEWEST)
HTTPX2 = (1, 8, 7)
"""LiveKit up to 1.8.6 hands these clients an httpx that their newest versions do not take, and seldom says so."""
UNSEEN = """
import livekit.agents.version
from livekit_costmeter.metering.hooks.taps import unseen
print(livekit.agents.version.__version__, ", ".join(unseen()) or "nothing", sep=": ")
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What the suite said in one environment; `failed` counts errors too."""

    version: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    unseen: str = "?"

    @property
    def is_fine(self) -> bool:
        """A suite that ran nothing is not fine either."""
        return self.passed > 0 and not self.failed


@dataclass(frozen=True, slots=True)
class Environment:
    """One virtual environment with one version of LiveKit."""

    version: str

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return HOME / self.version / "bin/python"

    def file(self, ending: str) -> Path:
        """Return a file that belongs to this environment, beside it."""
        return HOME / f"{self.version}.{ending}"

    def set_up(self) -> None:
        """Make or refresh it.

        Raises:
            subprocess.CalledProcessError: This version cannot be installed; uv has said why.
        """
        self.file("in").write_text("".join(f"{line}\n" for line in demands(self.version)))
        # What stands in the output file is kept by uv wherever the demands permit it.
        self.file("txt").write_text("".join(pins_of_others()))
        uv("venv", "--allow-existing", "--python", sys.executable, self.python.parents[1])
        extras = [f"--extra={name}" for name in extras_of(self.version)]
        options = ("--generate-hashes", "--no-header", "--no-annotate", *extras, "--group", "dev")
        constraint, output = self.file("in"), self.file("txt")
        uv("pip", "compile", "--python", self.python, *options, "-c", constraint, "-o", output, "pyproject.toml")
        uv("pip", "sync", "--python", self.python, "--require-hashes", output)
        uv("pip", "install", "--python", self.python, "--no-deps", "--no-build-isolation", "-e", ".")

    def run(self) -> Result:
        """Run the suite; its output goes to a file beside the environment."""
        asked = subprocess.run([self.python, "-c", UNSEEN], cwd=ROOT, check=True, capture_output=True, text=True)
        version, _, unseen = asked.stdout.strip().partition(": ")
        report = self.file("xml")
        report.unlink(missing_ok=True)
        command = [str(self.python), "-m", "pytest", "-m", "not slow", f"--junitxml={report}", "-p", "no:cacheprovider"]
        if "otlp" not in extras_of(self.version):
            command += ["-k", "not otlp", "--ignore", "tests/delivery/sinks/test_otlp.py"]
        with self.file("log").open("wb") as log:
            subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)
        return Result(version, *counts(report), unseen)


def uv(*arguments: str | Path) -> None:
    """Run uv quietly: the one on the path, else the one beside this interpreter."""
    program = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    subprocess.run([program, "--quiet", *map(str, arguments)], cwd=ROOT, check=True)


def demands(version: str) -> Iterator[str]:
    """Say what an environment must hold: LiveKit and every plugin at one version."""
    if version == NEWEST:
        return
    yield f"livekit-agents=={version}"
    names = re.findall(r"^(livekit-plugins-[\w-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    yield from (f"{name}=={version}" for name in names)
    if tuple(map(int, version.split("."))) < HTTPX2:
        yield from ("openai<3", "anthropic<1")


def extras_of(version: str) -> list[str]:
    """Name the extras that go with a version: OpenTelemetry's logs are not yet there for older ones."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    is_old = version != NEWEST and tuple(map(int, version.split("."))) < HTTPX2
    return [name for name in extras if name != "otlp" or not is_old]


def pins_of_others() -> Iterator[str]:
    """Return the lines of `constraints.txt`, hashes included, without LiveKit's own packages."""
    is_livekit = False
    for line in (ROOT / "constraints.txt").read_text().splitlines(keepends=True):
        if not line.startswith((" ", "#")):
            is_livekit = line.startswith("livekit")
        if not is_livekit:
            yield line


def counts(report: Path) -> tuple[int, int, int]:
    """Read passed, failed and skipped tests from a JUnit report; none where the suite could not start."""
    if not report.exists():
        return 0, 0, 0
    suite = next(ET.parse(report).iter("testsuite"))
    tests, failures, errors, skipped = (int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped"))
    return tests - failures - errors - skipped, failures + errors, skipped


def result_of(version: str) -> Result:
    """Set up one environment and run the suite in it, with a word on the way."""
    print(f"livekit-agents {version} ...", file=sys.stderr)
    environment = Environment(version)
    try:
        environment.set_up()
        result = environment.run()
    except subprocess.CalledProcessError as error:
        print(f"  {error.stderr or error}", file=sys.stderr)
        return Result(version)
    if not result.is_fine:
        print(f"  not fine: {environment.file('log').relative_to(ROOT)}", file=sys.stderr)
    return result


def table(results: list[Result]) -> str:
    """Lay the results out, one line per version."""
    rows = [("version", "passed", "failed", "skipped", "cannot be seen")]
    rows += [(r.version, str(r.passed), str(r.failed), str(r.skipped), r.unseen) for r in results]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def main() -> int:
    """Run the matrix and print its table."""
    HOME.mkdir(exist_ok=True)
    results = [result_of(version) for version in sys.argv[1:] or VERSIONS]
    print(table(results))
    return 0 if all(result.is_fine for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
