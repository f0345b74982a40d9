"""What every adapter refuses before it stores a message."""

from __future__ import annotations

from datetime import datetime

import pytest

from anybroker.broker import Message
from anybroker.capabilities import Capabilities, Durability, Ordering
from anybroker.errors import ConfigurationError, MessageTooLarge, Unsupported
from anybroker.validation import check_messages

WEAK = Capabilities(
    durability=Durability.PROCESS,
    ordering=Ordering.FIFO,
    max_body=3,
    delay_precision=1,
    expiry_bound=1,
    wake_bound=1,
    wait_slack=1,
)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (Message("i", "q", b"1234"), MessageTooLarge),
        (Message("i", "q", b"", priority=1), Unsupported),
        (Message("i", "q", b"", priority=-1), Unsupported),
        (Message("i", "q", b"", ordering_key=""), Unsupported),
        (Message("i", "", b""), ConfigurationError),
        (Message("i", "q" * 81, b""), ConfigurationError),
        (Message("i", "q", b"", eta=datetime.max), ConfigurationError),  # noqa: DTZ901
    ],
)
def test_validation__undeclared_abilities_are_refused(message: Message, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_messages([Message("before", "q", b""), message], WEAK)


def test_validation__declared_abilities_are_not() -> None:
    check_messages([Message("i", "🦊" * 80, b"123"), Message("i", "q", b"")], WEAK)
