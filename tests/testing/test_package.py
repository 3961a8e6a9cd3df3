"""The exports of the testing package."""

import subprocess
import sys

import pytest

import livekit_costmeter.testing as package


def modules_after(code):
    """List the top-level modules that a fresh interpreter has loaded after running the code."""
    script = f"import sys\n{code}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    ran = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


@pytest.mark.parametrize("name", ["Script", "Ledger", "check_sink", "MemorySink"])
def test_what_needs_no_livekit_imports_none(name):
    """Scripts, the ledger and the sink tests load neither LiveKit nor the HTTP server."""
    assert not {"livekit", "aiohttp"} & modules_after(f"from livekit_costmeter.testing import {name}")


@pytest.mark.parametrize("name", package.__all__)
def test_every_export_is_there(name):
    """Each listed name can be imported."""
    assert getattr(package, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    """A misspelt import fails as it does for any module."""
    with pytest.raises(AttributeError, match="LoopbackProvider'"):
        _ = package.LoopbackProvider
