"""The command line as a whole: help, streams, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from livekit_costmeter import __version__
from livekit_costmeter.cli import _COMMANDS, costmeter

RUN = [sys.executable, "-m", "livekit_costmeter"]


def test_help_lists_every_command_with_one_whole_line(run):
    """No line is cut, and the first commands are what a new user needs first."""
    result = run("--help")
    listed = [line for line in result.stdout.partition("Commands:\n")[2].splitlines() if line.strip()]
    assert [line.split()[0] for line in listed] == list(_COMMANDS)
    assert all(len(line.split()) > 3 for line in listed)
    assert "..." not in result.stdout.partition("Commands:")[2]
    assert list(_COMMANDS)[:3] == ["demo", "init", "check"]


def test_help_on_a_narrow_terminal_wraps(run):
    """Every word is there, whatever the width."""
    context = click.Context(costmeter, terminal_width=40)
    narrow = " ".join(costmeter.get_help(context).partition("Commands:")[2].split())
    assert narrow == " ".join(run("--help").stdout.partition("Commands:")[2].split())


def commands(group, *names):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*names, name)
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)


@pytest.mark.parametrize("names", [(), *commands(costmeter)], ids=" ".join)
def test_every_command_explains_itself(run, names):
    """`-h` and `--help` work everywhere and exit with 0."""
    result = run(*names, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: {' '.join(('costmeter', *names))} ")
    assert run(*names, "-h").stdout == result.stdout


def test_help_starts_without_what_only_some_commands_need():
    """Neither LiveKit nor a terminal library nor a price catalog is imported to print help."""
    code = (
        "import sys\n"
        "from livekit_costmeter.cli import costmeter\n"
        "costmeter(['--help'], standalone_mode=False)\n"
        "heavy = ('livekit', 'rich', 'genai_prices', 'voice_prices', 'structlog', 'yaml', 'sqlite3')\n"
        "print('imported:', [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported: []"


def test_the_version_is_the_package_s(run):
    """`--version` prints it."""
    assert run("--version").stdout == f"costmeter, version {__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("reprot",), ("--colour",), ("report", "extra"), ("prices", "none")])
def test_wrong_usage_exits_with_2_and_prints_no_result(command, arguments):
    """What is wrong stands on stderr."""
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Usage: " in done.stderr


def test_a_reader_that_leaves_early_is_no_error(ledger, usage):
    """`costmeter export | head -1` ends quietly, also if there is more than a pipe holds."""
    Path("many.jsonl").write_text(usage() * 2000)
    for arguments in (("rate", "many.jsonl"), ("export",), ("prices", "coverage"), ("--help",)):
        child = subprocess.Popen([*RUN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        first = child.stdout.readline()
        child.stdout.close()
        errors = child.stderr.read()
        child.stderr.close()
        assert child.wait(60) == 0, errors
        assert first
        assert b"Traceback" not in errors
        assert b"BrokenPipe" not in errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize(
    "arguments", [("export",), ("report",), ("rate", "usage.jsonl"), ("prices", "coverage"), ("--help",)]
)
def test_a_full_disk_is_one_line(ledger, usage, arguments):
    """What cannot be written is an error with exit code 2."""
    Path("usage.jsonl").write_text(usage())
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*RUN, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "costmeter: No space left on device"
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("arguments", ["report", "export", "rate usage.jsonl", "ship", "check"])
def test_a_stream_may_be_closed(ledger, usage, arguments):
    """A command in a daemon without standard streams works all the same."""
    Path("usage.jsonl").write_text(usage())
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m livekit_costmeter {arguments} <&- >&- 2>&-"], check=False, timeout=60
    )
    assert done.returncode == 0


def test_results_are_utf_8_whatever_the_locale(project, command, usage):
    """A name that the locale cannot write neither stops a command nor changes."""
    line = usage(account="Zoë").encode()
    done = command("rate", input=line, environ={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert done.returncode == 0
    assert '"account":"Zoë"' in done.stdout.decode()


def test_tables_are_plain_text_off_a_terminal(ledger, command):
    """Neither colours nor cut lines, however narrow the terminal is said to be."""
    done = command("report", environ={"COLUMNS": "20", "TERM": "xterm"})
    assert b"\x1b" not in done.stdout
    assert b"7 input_tokens" in done.stdout


def test_a_control_character_in_a_message_cannot_steer_the_terminal(run):
    """A name from outside is shown on one line without escape sequences."""
    result = run("report", "--config", "a\x1b[2J\nb.yaml")
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_bug_of_ours_keeps_its_traceback_and_an_exit_code_of_its_own():
    """It is neither a finding nor a mistake of the user."""
    code = (
        "from unittest import mock\n"
        "from livekit_costmeter import cli\n"
        "with mock.patch.object(cli._Commands, 'get_command', side_effect=ZeroDivisionError('bug')):\n"
        "    cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "report"], capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert done.stderr.startswith("Traceback")
    assert "ZeroDivisionError: bug" in done.stderr


def test_interrupting_a_command_exits_as_shells_expect():
    """Ctrl-C is 130, which no script takes for a finding."""
    code = (
        "from unittest import mock\n"
        "from livekit_costmeter import cli\n"
        "with mock.patch.object(cli._Commands, 'get_command', side_effect=KeyboardInterrupt):\n"
        "    cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "report"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_configuration_may_be_named_by_the_environment(ledger, command, tmp_path):
    """`$COSTMETER_CONFIG` works from any directory."""
    config = str(ledger / "costmeter.yaml")
    os.chdir(tmp_path)
    assert command("report", environ={"COSTMETER_CONFIG": config}).returncode == 0
    assert command("report").returncode == 2
