"""
Who did the work, per component object: resolved once, and again only when its model, provider, key or mark changes.

Invariant: what is cached is the resolved identity and its JSON; a key is compared by Python's per-process hash, which
is good to notice a change and useless to find the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from livekit_costmeter.metering.attribution import OWNER_MARK, KeyRing
from livekit_costmeter.metering.hooks import internals
from livekit_costmeter.records import UNKNOWN, usage_json

_KNOWN = "_livekit_costmeter_known"


class Identify(Protocol):
    """Names a provider and model canonically from what a plugin reports."""

    def __call__(self, component: str, reported_provider: str, reported_model: str, label: str = "") -> Any:
        """Return an object with `provider` and `model`."""


class Identity:
    """The record fields of one component, and their JSON together with the context they were last used in."""

    __slots__ = ("_account", "_fields", "_last", "model", "provider")

    def __init__(self, fields: dict[str, Any], account: str | None) -> None:
        self.provider: str = fields["provider"]
        self.model: str = fields["model"]
        self._fields = fields
        self._account = account
        self._last: tuple[Mapping[str, Any] | None, bytes] = (None, b"")

    def members_with(self, context: Mapping[str, Any], account_is_fixed: bool) -> bytes:
        """Return these fields and a context's as JSON members, without braces, a comma at the end.

        Args:
            context: A scope's fields; a scope that changes makes a new mapping.
            account_is_fixed: The context says whose account it is; otherwise the key's account does.
        """
        known, encoded = self._last
        if known is not context:
            fields = {**self._fields, **context}
            if self._account is not None and not account_is_fixed:
                fields["account"] = self._account
            encoded = usage_json(fields)[1:-1] + b","
            # One assignment, because jobs in threads may share a component.
            self._last = (context, encoded)
        return encoded


class _Known:
    """What a component was last resolved to, and as what it reported itself then; it lives on the component."""

    __slots__ = ("identity", "key", "key_path", "kind", "mark", "model", "provider")

    def __init__(
        self, kind: str, provider: str, model: str, path: Callable[[Any], Any] | None, mark: Any, identity: Identity
    ) -> None:
        self.kind = kind
        self.provider = provider
        self.model = model
        self.key_path = path
        self.mark = mark
        self.identity = identity
        self.key: int | None = None

    def is_current(self, component: Any, provider: str, model: str) -> bool:
        """Tell whether the component still reports what it was resolved by, with the same key and mark."""
        try:
            key = None if self.key_path is None else hash(self.key_path(component))
        except AttributeError:
            return False
        return (
            self.model == model
            and self.provider == provider
            and self.key == key
            and self.mark == getattr(component, OWNER_MARK, None)
        )


class Identities:
    """Resolves components to identities."""

    def __init__(self, identify: Identify, keys: KeyRing) -> None:
        self._identify = identify
        self._keys = keys

    def identity(self, component: Any, event: Any, kind: str) -> Identity:
        """Return the identity of a component, by what it (or its metrics object) reports now."""
        metadata = getattr(event, "metadata", None)
        if metadata is not None:
            model, provider = metadata.model_name, metadata.model_provider
        else:
            model, provider = component.model, component.provider
        known: _Known | None = getattr(component, _KNOWN, None)
        if known is not None and known.kind == kind and known.is_current(component, provider, model):
            return known.identity
        identity = self._resolve(component, event, kind, provider or UNKNOWN, model or UNKNOWN)
        path, mark = internals.key_path(component), getattr(component, OWNER_MARK, None)
        known = _Known(kind, provider, model, path, mark, identity)
        known.key = None if path is None else hash(path(component))
        with suppress(AttributeError):  # one without room for attributes is resolved each time
            setattr(component, _KNOWN, known)
        return identity

    def _resolve(self, component: Any, event: Any, kind: str, provider: str, model: str) -> Identity:
        # Plugins report the host of their address with the credentials that stand before it.
        provider = provider.rpartition("@")[2]
        label = getattr(event, "label", None) or getattr(component, "label", "") or ""
        identity = self._identify(kind, provider, model, label)
        owner = self._keys.owner_of(component, identity.provider)
        fields = {
            "component": kind,
            "provider": identity.provider,
            "model": identity.model,
            "reported_provider": provider,
            "reported_model": model,
            "key_owner": owner.name,
        }
        if owner.key_id is not None:
            fields["key_id"] = owner.key_id
        return Identity(fields, owner.account)
