"""
What a fetch takes from the configuration and the environment.

Invariant: keys come from the environment alone and are shown nowhere: not in a repr, not in a message, and what a
provider echoes is made unreadable before anybody sees or stores it.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from livekit_costmeter.reporting.reconcile.api.reports import ApiError, Variable, Vendor

_KEY = re.compile(r"[!-~]{8,}\Z")
_HIDDEN = "***"


class ApiSettings(BaseModel):
    """One provider below `reconcile.apis`: `{url: https://proxy.example/openai/v1}` in place of its own address."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
    url: str | None = Field(default=None, repr=False)

    @field_validator("url")
    @classmethod
    def _base_address(cls, url: str | None) -> str | None:
        if url is not None and not _is_base_address(url):
            raise ValueError("expected an address that begins with https:// or http://, without user, `?` and `#`")
        return url


def _is_base_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        plain = not (parts.query or parts.fragment or "@" in parts.netloc or re.search(r"\s", url))
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and plain
    except ValueError:  # its text may quote what stands where a port is expected
        return False


@dataclass(frozen=True, slots=True)
class Credentials:
    """
    What the environment has for a provider.

    Attributes:
        values: By the first name of each variable.
        key_names: The variables that the secret ones were found in, for messages.
    """

    values: Mapping[str, str] = field(repr=False)
    key_names: tuple[str, ...]
    _secrets: tuple[str, ...] = field(repr=False)

    def conceal(self, text: str) -> str:
        """Return a text without the keys in it, however they are written."""
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return text


def read_credentials(vendor: Vendor, environment: Mapping[str, str]) -> Credentials:
    """
    Find what a provider needs.

    Raises:
        ApiError: A variable is not set, or holds what can be no key; the message names it.
    """
    found = [(variable, _set_name(vendor, variable, environment)) for variable in vendor.variables]
    values = {variable.names[0]: environment[name].strip() for variable, name in found}
    for variable, name in found:
        if variable.secret and not _KEY.match(values[variable.names[0]]):
            raise ApiError(f"{vendor.provider}: {name} holds no key; expected at least 8 characters without spaces")
    keys = tuple(name for variable, name in found if variable.secret)
    return Credentials(values, keys, _spellings(vendor, values))


def _set_name(vendor: Vendor, variable: Variable, environment: Mapping[str, str]) -> str:
    for name in variable.names:
        if environment.get(name, "").strip():
            return name
    names = " or ".join(variable.names)
    raise ApiError(f"{vendor.provider}: set {names} in the environment ({vendor.key})")


def _spellings(vendor: Vendor, values: Mapping[str, str]) -> tuple[str, ...]:
    """Return the secrets as they are and as a header, a URL or an encoding spells them, the longest first."""
    secrets = {values[variable.names[0]] for variable in vendor.variables if variable.secret}
    coded = {b64encode(secret.encode()).decode() for secret in secrets}
    sent = {part for value in vendor.headers(values).values() for part in value.split() if len(part) >= 16}  # noqa: PLR2004
    spelled = {other for secret in secrets for other in (secret, quote(secret, safe=""))}
    return tuple(sorted(spelled | coded | sent, key=len, reverse=True))
