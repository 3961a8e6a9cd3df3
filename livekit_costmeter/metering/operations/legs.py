"""
Legs of a call as a room shows them: who is on the line, through whose number, and whether it rings, talks or waits.

LiveKit's SIP service writes on its participants (docs.livekit.io/reference/telephony/sip-participant.md):
`sip.callStatus` is `dialing` or `ringing` before somebody answers, `active` (or `automation`, while tones are dialed)
from then on, and `hangup` at the end; `sip.ruleID` is there on inbound calls only; `sip.trunkPhoneNumber` is our own
number, `sip.phoneNumber` the other one. Of hold it says nothing. A phone cannot mute its track in the room, only the
platform can: a leg whose audio is muted there is one that the platform has put on hold. A status `hold` would be
understood as well.

Invariant: what is read is read off the participant as it is now, never off an event; numbers are matched as they are
(but for what they are spaced with) and masked before they are kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from livekit_costmeter.metering.context import Scope
from livekit_costmeter.metering.identities import Identity
from livekit_costmeter.metering.privacy import Privacy
from livekit_costmeter.metering.readers import seconds_text
from livekit_costmeter.records import PLATFORM, UNKNOWN

WEBRTC = "webrtc"
STANDARD_KIND, SIP_KIND, CONNECTOR_KIND = 0, 3, 5
_AUDIO_TRACK = 1
_BEFORE_ANSWER = frozenset({"dialing", "ringing"})
_AFTER_ANSWER = frozenset({"", "active", "automation", "hold"})
_KEPT = (
    *("callID", "callStatus", "trunkID", "ruleID"),
    *("twilio.callSid", "telnyx.callLegID", "telnyx.callSessionID"),
)
_CARRIERS = {"sip.twilio.": "twilio", "sip.telnyx.": "telnyx"}
"""Carriers that LiveKit writes down itself, by the attributes it makes of their headers."""
_NUMBERS = ("phoneNumber", "trunkPhoneNumber")
_SPACING = re.compile(r"(\[[^]]*\])|[\s().-]")
"""What a number is spaced with; what a glob has in brackets stays as it is."""
_PUBLISHES_FOR_ANOTHER = "lk.publish_on_behalf"

Channel = Literal["inbound", "outbound", "web", "chat"]
Status = Literal["ringing", "answered", "ended", "unknown"]


@dataclass(frozen=True, slots=True)
class TelephonyRule:
    """One entry of `telephony`: the first that matches a leg says whose number it is; `trunk`, `number` are globs.

    However a number is spaced, it is the same; a national form is another than the international one.
    """

    owner: str
    provider: str | None = None
    trunk: str = "*"
    number: str = field(default="*", repr=False)
    direction: Literal["inbound", "outbound"] | None = None
    number_type: str | None = None
    account: str | None = None

    def matches(self, trunk: str, number: str, direction: str) -> bool:
        """Tell whether a leg on this trunk and on this number of ours is meant."""
        if self.direction not in (None, direction):
            return False
        return fnmatchcase(trunk, self.trunk) and fnmatchcase(_unspaced(number), _unspaced(self.number))


@dataclass(frozen=True, slots=True)
class Line:
    """What a leg goes over, and who owns it."""

    provider: str
    channel: Channel
    owner: str
    account: str | None = None
    number_type: str | None = None
    trunk: str | None = None


@dataclass(slots=True, eq=False, weakref_slot=True)
class Leg:
    """One leg, from the moment it is seen: `since` on the monotonic clock, `seen_at` on the wall."""

    scope: Scope
    since: float
    seen_at: float
    participant: str | None = None
    part: Literal["primary", "transfer"] = "primary"
    line: Line | None = None
    identity: Identity | None = None
    operation_id: str | None = None
    """None until it is answered."""
    sip: Mapping[str, str] | None = None
    rang: float | None = None
    held: float = 0.0
    held_since: float | None = None
    _context: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None

    def hold(self, is_held: bool, now: float) -> None:
        """Note whether the leg waits now."""
        if self.held_since is not None:
            self.held += now - self.held_since
        self.held_since = now if is_held else None

    def context(self) -> Mapping[str, Any]:
        """Return its scope's record fields with the participant of this leg; the same mapping for the same fields."""
        scope_fields = self.scope.current()
        if self.participant is None:
            return scope_fields
        if self._context is None or self._context[0] is not scope_fields:
            self._context = scope_fields, {**scope_fields, "participant": self.participant}
        return self._context[1]

    def attributes(self, state: Literal["opened", "connected", "ended"]) -> dict[str, Any]:
        """Return a record's attributes; the first and the last record of a leg say more than those between."""
        line = self.line
        values: dict[str, Any] = {"leg": self.part, "state": state}
        if line is not None:
            values |= {"number_type": line.number_type, "trunk": line.trunk}
        if state != "connected":
            values |= {"ring_seconds": None if self.rang is None else seconds_text(self.rang), "sip": self.sip or None}
        if state == "ended" and self.rang is not None and self.operation_id is not None:
            values["hold_seconds"] = seconds_text(self.held)
        return {name: value for name, value in values.items() if value is not None}


def kind_of(participant: Any) -> Literal["sip", "web"] | None:
    """Tell a phone from a person in the room; agents, recorders, and who publishes for one of them are neither."""
    if participant.kind == SIP_KIND:
        return "sip"
    is_person = (
        participant.kind in (STANDARD_KIND, CONNECTOR_KIND) and _PUBLISHES_FOR_ANOTHER not in participant.attributes
    )
    return "web" if is_person else None


def status_of(participant: Any) -> Status:
    """Return where a SIP participant's call stands; `unknown` is a word that LiveKit does not use today."""
    status = participant.attributes.get("sip.callStatus", "")
    if status in _BEFORE_ANSWER:
        return "ringing"
    if status == "hangup":
        return "ended"
    return "answered" if status in _AFTER_ANSWER else "unknown"


def is_held(participant: Any) -> bool:
    """Tell whether a SIP participant waits."""
    audio = [track for track in participant.track_publications.values() if track.kind == _AUDIO_TRACK]
    is_muted = bool(audio) and all(track.muted for track in audio)
    return is_muted or participant.attributes.get("sip.callStatus") == "hold"


def sip_line(participant: Any, rules: Iterable[TelephonyRule], canonical: Callable[[str, str], str]) -> Line:
    """Return the line of a SIP participant; `canonical(provider, channel)` spells the provider's name."""
    attributes = participant.attributes
    channel: Literal["inbound", "outbound"] = "inbound" if attributes.get("sip.ruleID") else "outbound"
    trunk, number = attributes.get("sip.trunkID", ""), attributes.get("sip.trunkPhoneNumber", "")
    rule = next((rule for rule in rules if rule.matches(trunk, number, channel)), TelephonyRule(UNKNOWN))
    told = (carrier for prefix, carrier in _CARRIERS.items() if any(name.startswith(prefix) for name in attributes))
    provider = rule.provider or next(told, UNKNOWN)
    return Line(canonical(provider, channel), channel, rule.owner, rule.account, rule.number_type, trunk or None)


def web_line(session: Any, *, is_carried: bool = False) -> Line:
    """Return the line of who talks or, with a session that neither hears nor speaks, writes to an agent directly.

    Args:
        session: The agent session.
        is_carried: Somebody comes through a connector (WhatsApp, Twilio), which says neither its price nor its owner.
    """
    devices = (getattr(getattr(session, side, None), "audio", None) for side in ("input", "output"))
    channel: Channel = "chat" if all(device is None for device in devices) else "web"
    return Line(UNKNOWN, channel, UNKNOWN) if is_carried else Line(WEBRTC, channel, PLATFORM)


def _unspaced(number: str) -> str:
    return _SPACING.sub(lambda match: match[1] or "", number)


def sip_attributes(participant: Any, privacy: Privacy) -> dict[str, str]:
    """Return what is kept of a participant's SIP attributes: ids, status, and the numbers as privacy wants them."""
    attributes = {name.removeprefix("sip."): text for name, text in participant.attributes.items() if text}
    kept = {name: attributes[name] for name in _KEPT if name in attributes}
    return kept | {name: privacy.phone_number(attributes[name]) for name in _NUMBERS if name in attributes}
