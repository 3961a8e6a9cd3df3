"""
Where usage happened: session, job, room, agent, participant, account and labels, as record fields.

Invariant: a scope is built once per session (or job) and only ever gains context; phone numbers are masked before
they enter it, so no record can hold one that the privacy setting forbids.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, ref

from livekit_costmeter.metering.hooks import internals
from livekit_costmeter.metering.privacy import Privacy

_PHONE_NUMBERS = ("sip.phoneNumber", "sip.trunkPhoneNumber")


@dataclass(frozen=True, slots=True)
class ContextRules:
    """What the configuration says of context: fixed values, and paths into metadata (`attribution`)."""

    project: str | None = None
    account: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    account_path: str | None = None
    project_path: str | None = None
    label_paths: Mapping[str, str] = field(default_factory=dict)


class Scope:
    """The context of one session, of one job outside any session, or of the bare process."""

    def __init__(
        self, rules: ContextRules, privacy: Privacy, *, session: Any, job: Any, session_id: str | None
    ) -> None:
        self._rules = rules
        self._privacy = privacy
        self._session = None if session is None else ref(session)
        self._job = None if job is None else ref(job)
        self._attached: dict[str, Any] = {"account": None, "labels": {}}
        self._waits_for_participant = session is not None
        self.session_id = session_id
        self.fields: dict[str, Any] = {}
        self.account_is_fixed = False
        self._build()

    @property
    def session(self) -> Any:
        """The session, while there is one."""
        return self._session() if self._session else None

    def attach(self, account: str | None, labels: Mapping[str, str] | None) -> None:
        """Add context from now on; what was recorded before keeps what it had."""
        if account is not None:
            self._attached["account"] = self._privacy.account(account)
        self._attached["labels"].update(self._privacy.texts(labels or {}))
        self._build()

    def current(self) -> dict[str, Any]:
        """Return the record fields of this scope; the participant joins as soon as there is one."""
        if self._waits_for_participant:
            self._look_for_participant()
        return self.fields

    def _look_for_participant(self) -> None:
        session = self._session() if self._session else None
        if session is not None and internals.linked_participant(session) is not None:
            self._waits_for_participant = False
            self._build()

    def _build(self) -> None:
        job = self._job() if self._job else None
        session = self._session() if self._session else None
        participant = internals.linked_participant(session) if session is not None else None
        facts = _facts(job, participant)
        account = self._attached["account"] or self._found(facts, self._rules.account_path, self._privacy.account)
        self.account_is_fixed = account is not None
        found = {name: self._found(facts, path, self._privacy.text) for name, path in self._rules.label_paths.items()}
        labels = {**self._privacy.texts(self._rules.labels), **{name: text for name, text in found.items() if text}}
        fields = {
            "project": self._found(facts, self._rules.project_path, self._privacy.text) or self._rules.project,
            "account": account or self._rules.account,
            "labels": {**labels, **self._attached["labels"]},
            "session_id": self.session_id,
            "job_id": facts["job"].get("id"),
            "room": self._privacy.text(facts["room"].get("name")),
            "participant": self._privacy.text(facts["participant"].get("identity")),
        }
        self.fields = {name: value for name, value in fields.items() if value}

    def _found(self, facts: Mapping[str, Any], path: str | None, masked: Callable[[str], str | None]) -> str | None:
        text = _follow(facts, path)
        if text is None or path is None:
            return None
        # What LiveKit says is a number is one in a national form as well, which elsewhere might be a customer's.
        return (self._privacy.phone_number(text) if path.endswith(_PHONE_NUMBERS) else masked(text)) or None


class Scopes:
    """Finds the scope of the current task; builds it on first sight."""

    def __init__(self, rules: ContextRules, privacy: Privacy, *, token: Callable[[], str] | None = None) -> None:
        self._rules = rules
        self._privacy = privacy
        self._token = token or (lambda: secrets.token_hex(8))
        self._by_session: WeakKeyDictionary[Any, Scope] = WeakKeyDictionary()
        self._by_job: WeakKeyDictionary[Any, Scope] = WeakKeyDictionary()
        self._process = Scope(rules, privacy, session=None, job=None, session_id=None)

    def of_session(self, session: Any) -> Scope:
        """Return the scope of one session."""
        scope = self._by_session.get(session)
        if scope is None:
            scope = Scope(
                self._rules,
                self._privacy,
                session=session,
                job=internals.current_job(),
                session_id=f"ses_{self._token()}",
            )
            self._by_session[session] = scope
        return scope

    def current(self) -> tuple[Scope, str | None, Any]:
        """Return the scope of the running task, the id of its agent, and the speech it works for."""
        activity, speech, scope, job = internals.current_task()
        if activity is not None:
            return self.of_session(activity.session), activity.agent.id, speech
        if scope is None:
            scope = self._process if job is None else self._of_job(job)
        return scope, None, speech

    def _of_job(self, job: Any) -> Scope:
        scope = self._by_job.get(job)
        if scope is None:
            scope = Scope(self._rules, self._privacy, session=None, job=job, session_id=None)
            self._by_job[job] = scope
        return scope


def _facts(job: Any, participant: Any) -> dict[str, dict[str, Any]]:
    info = getattr(job, "job", None)
    room = getattr(info, "room", None)
    return {
        "job": {"id": getattr(info, "id", None), "metadata": _metadata(info)},
        "room": {"name": getattr(room, "name", None), "metadata": _metadata(room)},
        "participant": {
            "identity": getattr(participant, "identity", None),
            "attributes": dict(getattr(participant, "attributes", None) or {}),
        },
        "agent": {"name": getattr(info, "agent_name", None)},
    }


def _metadata(holder: Any) -> dict[str, Any]:
    try:
        values = json.loads(getattr(holder, "metadata", None) or "{}")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _follow(facts: Mapping[str, Any], path: str | None) -> str | None:
    if path is None:
        return None
    value: Any = facts
    # Attribute names hold dots themselves (`sip.phoneNumber`), so the longest key that fits is taken.
    parts = path.split(".")
    while parts and isinstance(value, Mapping):
        for size in range(len(parts), 0, -1):
            key = ".".join(parts[:size])
            if key in value:
                value, parts = value[key], parts[size:]
                break
        else:
            return None
    if parts or value is None or isinstance(value, dict | list):
        return None
    return str(value) or None
