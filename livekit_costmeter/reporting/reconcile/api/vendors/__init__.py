"""
One module per provider; each says as `VENDOR` what its API can be asked.

Invariant: a vendor knows addresses, parameters and how its pages follow one another, and nothing of what a page says:
that is the parsers' part. What it asks for is split as finely as reconciliation looks: by day, model, and key where the
provider has it.
"""

from __future__ import annotations

from importlib import import_module

from livekit_costmeter.reporting.reconcile.api.reports import ApiError, Vendor

_FOLDER = "livekit_costmeter.reporting.reconcile.api.vendors"
PROVIDERS = ("anthropic", "cartesia", "deepgram", "elevenlabs", "openai", "twilio")


def vendor_of(provider: str) -> Vendor:
    """
    Return the API of a provider.

    Raises:
        ApiError: It has none that is known; the message lists those that are.
    """
    if provider not in PROVIDERS:
        raise ApiError(f"no API of {provider!r} is known (there are: {', '.join(PROVIDERS)}); read its export instead")
    vendor = import_module(f"{_FOLDER}.{provider}").VENDOR
    assert isinstance(vendor, Vendor)
    return vendor
