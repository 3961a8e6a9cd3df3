"""
How the refused record of a batch is found, where a store only says that it refuses the batch: by halving.

Invariant: the rows of one record are never parted, and only a record that was refused alone counts as refused. What was
taken on the way is sent again with the rest of its batch at most once more, which is harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError, SinkError
from livekit_costmeter.records import Charge


class Refused(SinkError):
    """The store takes this piece neither now nor later: it is too large, or there is something odd in it."""


def send_in_halves(charges: Sequence[Charge], send: Callable[[list[Charge]], None], *, most: int) -> None:
    """Send the rows in pieces of about `most`; halve what is refused.

    Raises:
        RejectedRecords: These records were refused one by one; everything before the time was up is sent.
        RetryableError: What `send` raised, and no record is known to be refused.
    """
    refused: dict[str, str] = {}
    waiting = _pieces(charges, most)
    while waiting:
        piece = waiting.pop()
        try:
            send([charge for rows in piece for charge in rows])
        except Refused as error:
            if len(piece) == 1:
                refused[piece[0][0].record_id] = str(error)
            else:
                middle = len(piece) // 2
                waiting += [piece[middle:], piece[:middle]]
        except RetryableError:
            # With those out of the way the rest comes again at once, and gets further.
            if not refused:
                raise
            break
    if refused:
        raise RejectedRecords(refused)


def _pieces(charges: Sequence[Charge], most: int) -> list[list[list[Charge]]]:
    records: dict[str, list[Charge]] = {}
    for charge in charges:
        records.setdefault(charge.record_id, []).append(charge)
    pieces: list[list[list[Charge]]] = [[]]
    rows = 0
    for record in records.values():
        if rows and rows + len(record) > most:
            pieces.append([])
            rows = 0
        pieces[-1].append(record)
        rows += len(record)
    return [piece for piece in reversed(pieces) if piece]
