"""A real `Room` without a server: LiveKit's own events are put into it as they come from its native library."""

from __future__ import annotations

from livekit import rtc
from livekit.rtc import room as rtc_room
from livekit.rtc._proto import participant_pb2, room_pb2, track_pb2
from livekit.rtc.participant import LocalParticipant

SIP = participant_pb2.PARTICIPANT_KIND_SIP
STANDARD = participant_pb2.PARTICIPANT_KIND_STANDARD
AGENT = participant_pb2.PARTICIPANT_KIND_AGENT
CONNECTOR = participant_pb2.PARTICIPANT_KIND_CONNECTOR
HUNG_UP = participant_pb2.CLIENT_INITIATED
NO_HANDLE = {"id": 0}
INBOUND = {
    "sip.callID": "SCL_1", "sip.callStatus": "active", "sip.trunkID": "ST_in", "sip.ruleID": "SDR_1",
    "sip.phoneNumber": "+919812345678", "sip.trunkPhoneNumber": "+918012345678", "sip.hostname": "sip.carrier.example",
    "sip.h.x-secret": "do-not-keep",
}  # fmt: skip
OUTBOUND = {"sip.callID": "SCL_2", "sip.callStatus": "dialing", "sip.trunkID": "ST_out", "sip.phoneNumber": "1001"}


def person(identity, *, kind=STANDARD, sid=None, **attributes):
    info = participant_pb2.ParticipantInfo(
        sid=sid or f"PA_{identity}", name="", identity=identity, metadata="", attributes=attributes, kind=kind,
        disconnect_reason=participant_pb2.UNKNOWN_REASON,
    )  # fmt: skip
    return participant_pb2.OwnedParticipant(handle=NO_HANDLE, info=info)


class Lobby:
    """A room and who comes and goes in it."""

    def __init__(self):
        self.room = rtc.Room()
        self.room._local_participant = LocalParticipant(rtc_room.BroadcastQueue(), person("agent", kind=AGENT))

    def happens(self, **event):
        self.room._on_room_event(room_pb2.RoomEvent(room_handle=0, **event))

    def joins(self, identity, *, kind=SIP, sid=None, attributes=None):
        info = person(identity, kind=kind, sid=sid, **(attributes or {}))
        self.happens(participant_connected={"info": info})

    def finds(self, identity, **attributes):
        """Connect to a room in which somebody is already: LiveKit says nothing of him, but that it has connected."""
        self.room._create_remote_participant(person(identity, **attributes))

    def connects(self):
        self.happens(connection_state_changed={"state": room_pb2.CONN_CONNECTED})

    def calls(self, identity="caller", **attributes):
        self.joins(identity, attributes={**INBOUND, **attributes})

    def dials(self, identity="callee", **attributes):
        self.joins(identity, attributes={**OUTBOUND, **attributes})

    def leaves(self, identity, reason=HUNG_UP):
        self.happens(participant_disconnected={"participant_identity": identity, "disconnect_reason": reason})

    def turns(self, identity, status, **attributes):
        """Change a participant's call status."""
        changed = {"sip.callStatus": status, **attributes}
        entries = [{"key": name, "value": text} for name, text in changed.items()]
        known = {**self.room.remote_participants[identity].attributes, **changed}
        whole = [{"key": name, "value": text} for name, text in known.items()]
        event = {"participant_identity": identity, "attributes": whole, "changed_attributes": entries}
        self.happens(participant_attributes_changed=event)

    def publishes(self, identity):
        info = track_pb2.TrackPublicationInfo(
            sid=f"TR_{identity}", name="", kind=track_pb2.KIND_AUDIO, source=track_pb2.SOURCE_MICROPHONE,
            simulcasted=False, width=0, height=0, mime_type="audio/opus", muted=False, remote=True, encryption_type=0,
        )  # fmt: skip
        publication = track_pb2.OwnedTrackPublication(handle=NO_HANDLE, info=info)
        self.happens(track_published={"participant_identity": identity, "publication": publication})

    def mutes(self, identity):
        self.happens(track_muted={"participant_identity": identity, "track_sid": f"TR_{identity}"})

    def unmutes(self, identity):
        self.happens(track_unmuted={"participant_identity": identity, "track_sid": f"TR_{identity}"})

    def is_lost(self):
        self.happens(disconnected={"reason": participant_pb2.SERVER_SHUTDOWN})
