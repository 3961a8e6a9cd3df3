"""What every test may use: a fresh directory, and no configuration from outside."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_outside_configuration(monkeypatch, tmp_path_factory):
    """Run each test in an empty directory, without the variables of whoever runs it."""
    for name in ("COSTMETER_CONFIG", "COSTMETER_SECRET", "OPENAI_API_KEY", "DEEPGRAM_API_KEY", "CARTESIA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
