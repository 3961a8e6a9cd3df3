"""
Append what calls append, at a pace that is kept: `replay_calls.py DIRECTORY FIRST CALLS SECONDS SPEED START SINK...`.

The calls FIRST to FIRST + CALLS - 1 last SECONDS each and begin at START (epoch seconds); SPEED of their seconds pass
in one. Recognition appends a window every 4 s; a turn every 12 s appends an answer and its speech. One line per record
on stdout: its id (or `refused`), session, charges, when it was due (seconds of the call), and how many others were due
too; then one line `{"refused": ..., "dropped": ..., "waiting": ...}`.
"""

import json
import sys
import time
from bisect import bisect_right
from pathlib import Path

from livekit_costmeter.delivery import Spool
from livekit_costmeter.records import usage_json

WINDOW, TURN = 4.0, 12.0
SEGMENT_BYTES = 2 << 20
"""An eighth of the usual, so that every call goes on in several segments, also while a sink is away."""
MIDNIGHT = 1_795_132_800.0
"""2026-11-20 in UTC: when the calls were, whenever they are replayed."""
COMPONENTS = {
    "stt": {"provider": "deepgram", "model": "nova-3", "reported_provider": "Deepgram", "reported_model": "nova-3"},
    "llm": {
        "provider": "openai",
        "model": "gpt-4o-mini",
        "reported_provider": "api.openai.com",
        "reported_model": "gpt-4o-mini-2024-07-18",
    },
    "tts": {"provider": "cartesia", "model": "sonic-2", "reported_provider": "Cartesia", "reported_model": "sonic-2"},
}


def work_of(call, seconds):
    """Yield (when, component, fields) of all that one call appends."""
    phase = call * 0.037 % WINDOW
    for number in range(int(seconds / WINDOW)):
        amounts = {"audio_seconds": "4.000000", "connection_seconds": f"{4 + number % 9 / 1e4:.6f}"}
        yield phase + WINDOW * number, "stt", measured(amounts, "observed", f"stt_{call:016x}", WINDOW)
    for turn in range(int(seconds / TURN)):
        at, speech = phase + TURN * turn + 2.5, {"speech_id": f"speech_{call}_{turn}"}
        amounts = {"input_tokens": str(420 + 31 * (turn % 60)), "output_tokens": str(24 + turn % 70)}
        if turn:
            amounts["cached_input_tokens"] = str(128 * (1 + turn % 12))
        yield at, "llm", measured(amounts, "reported", f"chatcmpl-{call}-{turn}", 1.1, **speech)
        amounts = {"characters": str(90 + turn % 200), "output_audio_seconds": f"{5.2 + turn % 40 / 10:.6f}"}
        yield at + 0.9, "tts", measured(amounts, "observed", f"tts-{call}-{turn}", 0.8, **speech)


def measured(amounts, basis, operation, took, **more):
    """Return the fields of a record but its instants; `took` is how long the work took."""
    return took, {
        "outcome": "completed",
        "quantities": amounts,
        "basis": dict.fromkeys(amounts, basis),
        "operation_id": operation,
        "agent": "receptionist",
        **more,
    }


def head(call, component):
    """Return what the records of one component of a call share, as the meter splices it in."""
    shared = {
        "component": component,
        **COMPONENTS[component],
        "key_owner": "platform",
        "key_id": "9f31c2d07a4e",
        "account": f"account-{call % 10}",
        "project": "support-line",
        "labels": {"campaign": "q4"},
        "session_id": f"ses_{call:016x}",
        "job_id": f"AJ_{call}",
        "room": f"room-{call}",
        "participant": f"caller-{call}",
    }
    return usage_json(shared)[1:-1] + b","


def replay(spool, first, calls, seconds, speed, start):
    """Append everything when it is due."""
    sessions = {call: {name: head(call, name) for name in COMPONENTS} for call in range(first, first + calls)}
    work = [(due, call, *rest) for call in sessions for due, *rest in work_of(call, seconds)]
    work.sort(key=lambda item: item[0])
    dues = [item[0] for item in work]
    for position, (due, call, component, (took, fields)) in enumerate(work):
        now = (time.time() - start) * speed
        if now < due:
            time.sleep((due - now) / speed)
        late = max(0, bisect_right(dues, now, lo=position) - position - 1)
        instants = {"at": MIDNIGHT + due, "started_at": MIDNIGHT + due - took}
        record_id = spool.append(sessions[call][component], usage_json({**instants, **fields})[1:])
        print(record_id or "refused", f"ses_{call:016x}", len(fields["quantities"]), due, late)


directory, numbers, begin, owed = Path(sys.argv[1]), sys.argv[2:6], float(sys.argv[6]), sys.argv[7:]
writer = Spool(directory, header={"sinks": owed}, max_bytes=1 << 40, max_segment_bytes=SEGMENT_BYTES)
replay(writer, *map(int, numbers[:2]), *map(float, numbers[2:]), begin)
writer.close()
print(json.dumps({"refused": writer.stats.refused, "dropped": writer.stats.dropped, "waiting": writer.stats.waiting}))
