"""Finding the refused record of a batch."""

import pytest

from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError
from livekit_costmeter.delivery.sinks.halving import Refused, send_in_halves


class Store:
    """Takes pieces, except those with a record that it refuses; after `patience` pieces it is away."""

    def __init__(self, *refused, patience=1_000):
        self.refused = set(refused)
        self.patience = patience
        self.pieces = []

    def __call__(self, charges):
        self.patience -= 1
        if self.patience < 0:
            raise RetryableError("away")
        if self.refused & {charge.record_id for charge in charges}:
            raise Refused("odd")
        self.pieces.append([charge.record_id for charge in charges])


def test_batch_goes_in_one_piece(charges):
    """What is taken is sent once, in order."""
    store = Store()
    send_in_halves(charges(5), store, most=100)
    assert store.pieces == [[f"seg-{n}" for n in range(5) for _ in (0, 1)]]


def test_nothing_is_not_sent(charges):
    """An empty batch is no piece."""
    store = Store()
    send_in_halves([], store, most=100)
    assert store.pieces == []


def test_records_are_never_parted(charges):
    """The rows of a record go together, also where they are not neighbours or more than a piece is to have."""
    rows = charges(3)
    store = Store()
    send_in_halves(rows[::2] + rows[1::2], store, most=1)
    assert store.pieces == [[f"seg-{n}"] * 2 for n in range(3)]


def test_every_refused_record_is_named_and_the_rest_is_sent(charges):
    """Each record is refused alone before it counts as refused; order is kept."""
    store = Store("seg-3", "seg-4", "seg-11")
    with pytest.raises(RejectedRecords) as caught:
        send_in_halves(charges(12), store, most=10)
    assert caught.value.rejected == dict.fromkeys(("seg-3", "seg-4", "seg-11"), "odd")
    sent = [record for piece in store.pieces for record in piece[::2]]
    assert sent == [f"seg-{n}" for n in range(12) if n not in (3, 4, 11)]


def test_store_that_goes_away_is_retryable(charges):
    """Nothing is known to be refused: the batch comes again whole."""
    with pytest.raises(RetryableError, match="away"):
        send_in_halves(charges(4), Store("seg-1", patience=2), most=100)


def test_what_is_known_is_told_when_the_store_goes_away(charges):
    """A refused record is set aside at once, so that the next try has less to do."""
    with pytest.raises(RejectedRecords) as caught:
        send_in_halves(charges(8), Store("seg-0", "seg-7", patience=5), most=100)
    assert list(caught.value.rejected) == ["seg-0"]
