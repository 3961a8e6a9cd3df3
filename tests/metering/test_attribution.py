"""Whose key paid."""

from __future__ import annotations

import inspect
import stat
import threading

import pytest
from livekit.plugins import cartesia, deepgram, openai

from livekit_costmeter.config import find, load
from livekit_costmeter.config.document import read_document
from livekit_costmeter.metering import KeyRing, KeyRule, deployment_secret, fingerprint, mark_owner
from livekit_costmeter.records import Owner

SECRET = b"s"
KEY = "sk-0123456789abcdef-not-a-real-key"


def ring(*rules, environ=None):
    return KeyRing(rules, secret=lambda: SECRET, environ=environ or {})


COMPONENTS = [
    lambda key: openai.LLM(api_key=key),
    lambda key: openai.responses.LLM(api_key=key),
    lambda key: openai.STT(api_key=key),
    lambda key: openai.TTS(api_key=key),
    lambda key: openai.realtime.RealtimeModel(api_key=key),
    lambda key: deepgram.STT(api_key=key),
    lambda key: deepgram.STTv2(api_key=key),
    lambda key: deepgram.TTS(api_key=key),
    lambda key: cartesia.STT(api_key=key),
    lambda key: cartesia.TTS(api_key=key),
]


@pytest.mark.parametrize("make", COMPONENTS)
async def test_every_plugin_variant_names_its_key(make):
    """Each component's key is found, and the record will hold its fingerprint only."""
    owner = ring(KeyRule("acme", fingerprint=fingerprint(SECRET, KEY))).owner_of(make(KEY), "any")
    assert owner == Owner("acme", fingerprint(SECRET, KEY))
    assert KEY not in repr(owner)


async def test_inference_components_name_the_livekit_key():
    """The gateway is paid with LiveKit's own key."""
    from livekit.agents import inference

    for component in (
        inference.LLM(model="openai/gpt-4o-mini", api_key=KEY, api_secret="s" * 40),
        inference.STT(model="deepgram/nova-3", api_key=KEY, api_secret="s" * 40),
        inference.TTS(model="cartesia/sonic-3", api_key=KEY, api_secret="s" * 40),
    ):
        assert ring(environ={"LIVEKIT_API_KEY": KEY}).owner_of(component, "livekit").name == "platform"


def test_a_mark_wins_over_fingerprint_over_environment():
    """Precedence: explicit mark, then the configured fingerprint, then a variable, else unknown."""
    by_variable = KeyRule("by-variable", env="SOME_KEY")
    by_fingerprint = KeyRule("by-fingerprint", fingerprint=fingerprint(SECRET, KEY), account="acme")
    environ = {"SOME_KEY": KEY}
    component = openai.LLM(api_key=KEY)
    assert ring(by_variable, environ=environ).owner_of(component, "openai").name == "by-variable"
    both = ring(by_variable, by_fingerprint, environ=environ)
    assert both.owner_of(component, "openai") == Owner("by-fingerprint", fingerprint(SECRET, KEY), "acme")
    assert both.owner_of(mark_owner(component, "marked"), "openai").name == "marked"
    assert ring().owner_of(openai.LLM(api_key="another"), "openai").name == "unknown"


def test_a_key_from_the_plugins_own_variable_is_the_platforms():
    """Without any configuration, the key that the worker's environment holds is the platform's."""
    assert ring(environ={"OPENAI_API_KEY": KEY}).owner_of(openai.LLM(api_key=KEY), "openai").name == "platform"
    assert ring(environ={"HOME": KEY}).owner_of(openai.LLM(api_key=KEY), "openai").name == "unknown"


def test_a_customers_key_in_the_environment_is_not_the_platforms():
    """Only the variables that plugins fall back to say whose key it is; any other may hold a customer's."""
    environ = {"OPENAI_API_KEY": "mine", "ACME_OPENAI_API_KEY": KEY, "CRM_TOKEN": KEY}
    assert ring(environ=environ).owner_of(openai.LLM(api_key=KEY), "openai").name == "unknown"


def test_a_disk_that_refuses_the_secret_costs_the_fingerprint_only(tmp_path):
    """The record goes on to the spool, which keeps it in memory for as long as the same disk refuses."""
    (tmp_path / "spool").write_text("a file where the directory should be")
    keys = KeyRing((), secret=lambda: deployment_secret(tmp_path / "spool", {}), environ={"OPENAI_API_KEY": KEY})
    assert keys.owner_of(openai.LLM(api_key=KEY), "openai") == Owner("platform", None)


def test_cloud_credentials_take_an_explicit_owner():
    """A component without a static key is owned by mark or by its provider's rule."""
    component = type("Keyless", (), {})()
    assert ring().owner_of(component, "aws") == Owner("unknown", None)
    for spelling in ("aws", "AWS"):
        assert ring(KeyRule("cloud-team", provider=spelling)).owner_of(component, "aws") == Owner("cloud-team", None)


def test_no_signature_shows_the_environment():
    """What `help()` prints of our functions holds no value of a variable."""
    for function in (KeyRing, deployment_secret, load, find, read_document):
        assert "environ(" not in str(inspect.signature(function))


def test_the_generated_secret_is_private_and_made_once(tmp_path):
    """Without COSTMETER_SECRET a file of mode 0600 is made, and racing processes read the same one."""
    directory = tmp_path / "spool"
    found = []
    threads = [threading.Thread(target=lambda: found.append(deployment_secret(directory, {}))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 16
    assert stat.S_IMODE((directory / "secret").stat().st_mode) == 0o600
    assert [path.name for path in directory.iterdir()] == ["secret"]


def test_the_variable_wins_over_the_file(tmp_path):
    """COSTMETER_SECRET is used as it is, and no file is made."""
    assert deployment_secret(tmp_path / "spool", {"COSTMETER_SECRET": "given"}) == b"given"
    assert not (tmp_path / "spool").exists()
