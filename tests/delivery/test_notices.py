"""Log lines about a lasting trouble."""

from livekit_costmeter.delivery.notices import Notices


class Clock:
    """Time that moves when told."""

    now = 0.0

    def __call__(self):
        return self.now


def test_trouble_is_said_once_a_minute(caplog):
    """It is said at once, then held back, then said again with how often it was held back."""
    clock = Clock()
    notices = Notices(monotonic=clock)
    for _ in range(10):
        notices.warning("disk is full", about="a")
    assert caplog.text.count("disk is full") == 1
    clock.now = 61
    notices.warning("disk is full", about="a")
    assert caplog.text.count("disk is full") == 2
    assert "repeated=9" in caplog.text


def test_different_troubles_do_not_hide_each_other(caplog):
    """What is said of one sink holds back nothing about another."""
    notices = Notices(monotonic=Clock())
    notices.warning("sink is away", about="a")
    notices.warning("sink is away", about="b")
    assert caplog.text.count("sink is away") == 2


def test_forgotten_thing_is_news_again(caplog):
    """After it is gone, what is remembered about it is gone too."""
    notices = Notices(monotonic=Clock())
    notices.warning("segment waits", about="a")
    notices.forget("a")
    notices.warning("segment waits", about="a")
    assert caplog.text.count("segment waits") == 2
