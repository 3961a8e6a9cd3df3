"""The `telephony` section: whose number a call is on, from the YAML to the record."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from livekit_costmeter.config import ConfigError, load

ROOT = Path(__file__).parents[2]
YAML = """\
account: top-level
telephony:
  - {number: "+9198*", owner: nobody}
  - trunk: "ST_*"
    number: "+9180*"
    direction: inbound
    provider: Vobiz
    owner: platform
    number_type: local
    account: acme
"""
SCRIPT = """\
import asyncio, json
import livekit_costmeter as costmeter
from livekit.agents import Agent, AgentSession
from livekit.agents.voice.room_io import RoomOptions
from tests.metering.lobby import Lobby

meter = costmeter.install()
meter.on("usage_collected", lambda record: print(json.dumps([
    record.provider, record.model, record.key_owner, record.account, record.attributes["number_type"],
    record.attributes["sip"]["trunkPhoneNumber"],
])))

async def main():
    lobby = Lobby()
    lobby.calls()
    async with AgentSession() as session:
        options = RoomOptions(audio_output=False, text_output=False)
        await session.start(Agent(instructions=""), room=lobby.room, room_options=options)

asyncio.run(main())
"""


def test_a_call_is_on_the_number_that_the_file_names(tmp_path):
    """The first entry for our own number decides; its account is the call's, and numbers are masked as everywhere."""
    (tmp_path / "costmeter.yaml").write_text(YAML)
    environment = {"PATH": "", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines == [["vobiz", "inbound", "platform", "acme", "local", "+**********78"]] * 2


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{trunk: ST_1, direction: up}", ":2: telephony[0].direction: input should be 'inbound' or 'outbound'"),
        ("{trnk: ST_1}", ":2: telephony[0].trnk: unknown key (allowed: account, direction, number, number_type, owner"),
        ("{number: ''}", ":2: telephony[0].number: "),
        ("{number: 918012345678}", ":2: telephony[0].number: "),
        ("ST_1", ":2: telephony[0]: "),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, entry, message):
    """File, line, key path; a number is text, since a plain one has lost its plus."""
    path = tmp_path / "c.yaml"
    path.write_text(f"telephony:\n  - {entry}\n")
    with pytest.raises(ConfigError) as error:
        load(path, {})
    assert message in str(error.value)


def test_an_entry_without_an_owner_is_one_of_an_unknown_owner(tmp_path):
    """What is not said is not known; trunk, number and direction fit everything then."""
    path = tmp_path / "c.yaml"
    path.write_text("telephony:\n  - {provider: twilio}\n")
    (entry,) = load(path, {}).settings.telephony
    assert (entry.owner, entry.trunk, entry.number, entry.direction) == ("unknown", "*", "*", None)
