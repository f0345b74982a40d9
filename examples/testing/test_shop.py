"""Testing tasks without a server and without waiting: ``pytest test_shop.py``."""

from collections.abc import Callable
from datetime import timedelta

from shop import app, send_mail, sent, sign_up

from anybroker import App
from anybroker.testing import Testing


def test_sign_up(anybroker_testing: Callable[[App], Testing]) -> None:
    t = anybroker_testing(app)
    sign_up("ada@example.org")
    t.assert_enqueued(send_mail, "ada@example.org", "welcome")

    t.run()  # what is due now; it fails, and is to be retried
    t.advance(timedelta(hours=1))
    t.run()
    assert sent[1:] == ["ada@example.org: welcome"]

    t.advance(timedelta(days=2))
    t.run()
    assert sent[2:] == ["ada@example.org: how are you?"]
    assert t.dead("mail") == []
