"""Keys from the environment, addresses from the configuration."""

import pytest
from pydantic import ValidationError

from livekit_costmeter.reporting.reconcile.api import ApiError, ApiSettings
from livekit_costmeter.reporting.reconcile.api.settings import read_credentials
from livekit_costmeter.reporting.reconcile.api.vendors import vendor_of
from tests.reporting.reconcile.api.simulators import KEY, SIMULATORS


@pytest.mark.parametrize("make", SIMULATORS, ids=lambda make: make.provider)
def test_variable_that_is_missing_is_named(make):
    """Each provider says what to set, and where such a key comes from."""
    for missing in make.environment:
        rest = {name: value for name, value in make.environment.items() if name != missing}
        with pytest.raises(ApiError, match=rf"^{make.provider}: set (.* or )?{missing}\b.* in the environment \("):
            read_credentials(vendor_of(make.provider), rest)


@pytest.mark.parametrize("value", ["short", "two words of it", "line\nbreak-in-a-key", "schlüssel-4711", "   "])
def test_value_that_can_be_no_key_is_refused_unseen(value):
    """A header is not made of just anything, and the message does not repeat it."""
    with pytest.raises(ApiError, match=r"OPENAI_ADMIN_KEY") as caught:
        read_credentials(vendor_of("openai"), {"OPENAI_ADMIN_KEY": value})
    assert value.strip() not in str(caught.value) or not value.strip()


def test_plugin_variable_serves_where_the_own_is_not_set():
    """ElevenLabs' plugin has another name for the variable; the first one that is set counts, and is the one named."""
    vendor = vendor_of("elevenlabs")
    both = {"ELEVENLABS_API_KEY": KEY, "ELEVEN_API_KEY": "another-key-4711"}
    assert read_credentials(vendor, both).values == {"ELEVENLABS_API_KEY": KEY}
    assert read_credentials(vendor, {"ELEVEN_API_KEY": KEY}).key_names == ("ELEVEN_API_KEY",)


def test_admin_key_of_cartesia_goes_before_the_plugins():
    """The two keys do different things, so that both can be set."""
    both = {"CARTESIA_API_KEY": "sk_car_4711", "CARTESIA_ADMIN_KEY": KEY}
    assert read_credentials(vendor_of("cartesia"), both).key_names == ("CARTESIA_ADMIN_KEY",)


@pytest.mark.parametrize("make", SIMULATORS, ids=lambda make: make.provider)
def test_credentials_do_not_show_a_key(make):
    """A repr has no key, and concealing takes out every header value that holds it."""
    vendor = vendor_of(make.provider)
    found = read_credentials(vendor, make.environment)
    assert KEY not in repr(found)
    echoed = " ".join(vendor.headers(found.values).values())
    assert KEY not in found.conceal(f"{KEY} {echoed}")
    assert not any(part in found.conceal(echoed) for part in echoed.split() if len(part) > 15)


def test_concealing_leaves_the_rest_alone():
    """What is no secret is still there: account ids, versions."""
    found = read_credentials(vendor_of("twilio"), {"TWILIO_ACCOUNT_SID": "AC0123", "TWILIO_AUTH_TOKEN": "token/4711+"})
    assert found.conceal("AC0123 says token%2F4711%2B or token/4711+") == "AC0123 says *** or ***"


@pytest.mark.parametrize(
    "url",
    [
        "api.openai.com",
        "ftp://host/",
        "https:///path",
        "https://user:pass@host/",
        "https://host/?a=b",
        "https://h:99999",
        "https://h/ x",
    ],
)
def test_address_that_cannot_be_a_base_is_refused_unseen(url):
    """A base address has a scheme and a host, and no place for secrets; the message does not repeat it."""
    with pytest.raises(ValidationError, match=r"expected an address") as caught:
        ApiSettings(url=url)
    assert url not in str(caught.value)


def test_address_is_not_in_a_repr():
    """A path of a proxy may be secret."""
    assert ApiSettings(url="https://proxy.example/token-4711").model_dump() == {
        "url": "https://proxy.example/token-4711"
    }
    assert "4711" not in repr(ApiSettings(url="https://proxy.example/token-4711"))
