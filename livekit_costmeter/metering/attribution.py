"""
Whose key paid: from the component that did the work to the owner of its key.

Invariant: a key is read, compared and forgotten; only its HMAC fingerprint leaves this module. Precedence: an explicit
mark, the configured fingerprint, an environment variable, the provider (for cloud credentials), else unknown.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from livekit_costmeter.log import log
from livekit_costmeter.metering.hooks.internals import api_key_of
from livekit_costmeter.records import PLATFORM, UNKNOWN, Owner

SECRET_VARIABLE = "COSTMETER_SECRET"  # noqa: S105 - a variable's name
_VENDORS = """ANTHROPIC ASSEMBLYAI ASYNCAI AZURE_OPENAI BASETEN BLAND CAMB CARTESIA CEREBRAS COMETAPI DEEPGRAM DEEPSEEK
ELEVEN FIREWORKS FISH GEMINI GLADIA GNANI GOOGLE GRADIUM GROQ HUME INWORLD LETTA LIVEKIT LIVEKIT_INFERENCE LMNT MINIMAX
MISTRAL MOONSHOT MURF NEBIUS NEUPHONIC NVIDIA OPENAI OPENROUTER OVHCLOUD PERPLEXITY PHONIC RESEMBLE RESPEECHER RIME
SAMBANOVA SARVAM SIMPLISMART SLNG SMALLEST SONIOX SPEECHIFY SPEECHMATICS SPITCH TELNYX TOGETHER ULTRAVOX UPLIFTAI XAI"""
_KEY_VARIABLES = (
    *(f"{vendor}_API_KEY" for vendor in _VENDORS.split()),
    *("AZURE_OPENAI_AD_TOKEN", "AZURE_SPEECH_KEY", "CLOVA_STT_SECRET_KEY", "FAL_KEY", "OCTOAI_TOKEN"),
    *("LIVEKIT_API_SECRET", "LIVEKIT_INFERENCE_API_SECRET", "RTZR_CLIENT_SECRET"),
)
"""What plugins fall back to. No other variable says whose key it is: a customer's may lie in the environment too."""
_ENVIRONMENT_AGE = 1.0
"""Seconds for which the environment is taken as read: going through it costs more than a record."""
OWNER_MARK = "_livekit_costmeter_owner"
"""The attribute by which a component is marked with its owner."""
_Component = TypeVar("_Component")


@dataclass(frozen=True, slots=True)
class KeyRule:
    """One entry of `keys`: exactly one of fingerprint, env and provider selects the key."""

    owner: str
    fingerprint: str | None = None
    env: str | None = None
    provider: str | None = None
    account: str | None = None


def mark_owner(component: _Component, owner: str) -> _Component:
    """Say outright whose key a component uses; returns the component. Wins over everything."""
    setattr(component, OWNER_MARK, owner)
    return component


def deployment_secret(directory: Path, environ: Mapping[str, str] | None = None) -> bytes:
    """Return the secret behind fingerprints: `COSTMETER_SECRET`, else a file made once in the spool directory.

    Args:
        directory: The spool directory; the file is `secret` in it, mode 0600, good for grouping on one host.
        environ: Where the variable is looked up; the process's environment by default (not as a default value, which
            `help()` would print).
    """
    if given := (os.environ if environ is None else environ).get(SECRET_VARIABLE):
        return given.encode()
    path = directory / "secret"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = directory / f"secret.{secrets.token_hex(8)}"
    try:
        if not path.exists():
            descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
            # A link never replaces: of two processes that start together, one wins and both read the same.
            os.link(draft, path)
    except FileExistsError:
        return path.read_bytes().strip()
    finally:
        draft.unlink(missing_ok=True)
    return path.read_bytes().strip()


def fingerprint(secret: bytes, key: str) -> str:
    """Return the 12 hex digits by which records name a key: HMAC-SHA256 under the deployment's secret."""
    return hmac.new(secret, key.encode(), hashlib.sha256).hexdigest()[:12]


class KeyRing:
    """Resolves a component to the owner of its key."""

    def __init__(
        self,
        rules: Iterable[KeyRule] = (),
        *,
        secret: Callable[[], bytes],
        environ: Mapping[str, str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = tuple(rules)
        self._secret = secret
        self._environ = os.environ if environ is None else environ
        self._monotonic = monotonic
        self._keys: frozenset[int] = frozenset()
        self._read_again = -math.inf

    def owner_of(self, component: Any, provider: str) -> Owner:
        """Return the owner of the key that the component holds now."""
        key = api_key_of(component)
        key_id = None if key is None else self._fingerprint(key)
        mark = getattr(component, OWNER_MARK, None)
        if mark is not None:
            return Owner(mark, key_id, self._account_of(mark))
        rule = self._rule_for(key, key_id, provider)
        if rule is not None:
            return Owner(rule.owner, key_id, rule.account)
        if key is not None and self._is_from_environment(key):
            return Owner(PLATFORM, key_id)
        return Owner(UNKNOWN, key_id)

    def _fingerprint(self, key: str) -> str | None:
        try:
            return fingerprint(self._secret(), key)
        except OSError as error:
            # The disk that refuses the secret will refuse the record too, and that one waits in memory.
            log().warning("no secret for fingerprints, records do without", error=error.strerror or str(error))
            return None

    def _account_of(self, owner: str) -> str | None:
        return next((rule.account for rule in self._rules if rule.owner == owner and rule.account), None)

    def _rule_for(self, key: str | None, key_id: str | None, provider: str) -> KeyRule | None:
        if key is None:
            return next((rule for rule in self._rules if (rule.provider or "").lower() == provider), None)
        for rule in self._rules:
            if rule.fingerprint is not None and rule.fingerprint == key_id:
                return rule
        for rule in self._rules:
            if rule.env is not None and self._environ.get(rule.env) == key:
                return rule
        return None

    def _is_from_environment(self, key: str) -> bool:
        now = self._monotonic()
        if now >= self._read_again:
            # By hash: good to find a key again, useless to find it out.
            self._keys = frozenset(map(hash, filter(None, map(self._environ.get, _KEY_VARIABLES))))
            self._read_again = now + _ENVIRONMENT_AGE
        return hash(key) in self._keys
