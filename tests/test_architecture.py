"""The house: who may import whom, and how long things may get."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "livekit_costmeter"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
ALLOWED = {
    "records": set(),
    "log": set(),
    "pricing": {"records", "log"},
    "billing": {"records", "log", "pricing"},
    "metering": {"records", "log"},
    "delivery": {"records", "log"},
    "reporting": {"records", "log"},
    "testing": {"records", "log", "delivery"},
    "config": {"records", "log", "pricing", "billing", "metering", "delivery", "reporting"},
    "cli": {"records", "log", "pricing", "billing", "metering", "delivery", "reporting", "config", "testing"},
}
PROVIDER_LIBRARIES = {"livekit"}
MAY_IMPORT_LIVEKIT = {"metering", "testing", "cli"}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""
            if node.module == "livekit_costmeter":
                yield from (f"livekit_costmeter.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_packages_import_only_what_the_house_allows(path):
    """Records import nothing of ours, the four packages only records, config wires, the command line is on top."""
    part = part_of(path)
    if part in ("__init__", "__main__"):
        return
    for name in imports(path):
        if name.startswith("livekit_costmeter."):
            other = name.split(".")[1]
            if other in ALLOWED:
                assert other == part or other in ALLOWED[part], f"{part} imports {name}"
        elif name.split(".")[0] in PROVIDER_LIBRARIES:
            assert part in MAY_IMPORT_LIVEKIT, f"{part} imports {name}"


def test_only_the_sink_kept_for_tests_is_imported_from_delivery_by_testing():
    """The test kit offers the memory sink and its contract, and knows nothing else of delivery."""
    names = {name for path in (PACKAGE / "testing").rglob("*.py") for name in imports(path) if ".delivery" in name}
    assert names <= {"livekit_costmeter.delivery.sinks", "livekit_costmeter.delivery.sinks.memory"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_short(path):
    """No file has more than 300 lines and no function more than 50; every module says what it owns."""
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= 300
    assert ast.get_docstring(tree), "a module opens with what it owns"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, f"{node.name} is too long"


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCES}), ids=lambda path: path.name)
def test_packages_stay_small(folder):
    """A package holds at most about nine modules; a tenth wants a thought."""
    if folder.name not in ("sinks", "catalogs", "vendors"):
        assert len(list(folder.glob("*.py"))) <= 12


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_states_a_behaviour_and_can_fail(path):
    """A test has a sentence and an assertion."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            assert ast.get_docstring(node), f"{node.name} has no sentence"
            source = ast.unparse(node)
            assert re.search(r"\bassert\b|raises\(|check_sink|assert_", source), f"{node.name} asserts nothing"


def test_no_error_is_swallowed_without_a_word():
    """An exception handler does something: it logs, counts, returns or raises."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                assert not (len(node.body) == 1 and isinstance(node.body[0], ast.Pass)), f"{path}:{node.lineno}"


def test_importing_the_package_and_its_command_line_imports_no_livekit():
    """The command line and the shipper start without LiveKit and without a price catalog."""
    code = (
        "import sys, livekit_costmeter, livekit_costmeter.cli, livekit_costmeter.config.compose, "
        "livekit_costmeter.delivery, livekit_costmeter.reporting, livekit_costmeter.metering;"
        "print([n for n in ('livekit.agents', 'genai_prices', 'voice_prices', 'structlog') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_public_names_are_sorted_and_exist():
    """Everything that `__all__` promises is there."""
    import livekit_costmeter

    assert livekit_costmeter.__all__ == sorted(livekit_costmeter.__all__, key=str)
    for name in livekit_costmeter.__all__:
        assert getattr(livekit_costmeter, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = livekit_costmeter.nothing


def test_the_project_speaks_of_itself_alone():
    """No path of a machine and no address of a package index is in a file of the project."""
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split(
        "\n"
    )
    for name in filter(None, tracked):
        path = ROOT / name
        if path.is_file() and path.suffix in {".py", ".md", ".toml", ".yaml", ".txt", ".csv", ""}:
            text = path.read_text(encoding="utf-8", errors="replace")
            assert not re.search(r"(?<![\w.])/(work|root|farm)/\w", text), name
            assert "index-url" not in text or name == "tests/test_architecture.py", name
