"""What threads wait for while another one works for them."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from anybroker_broker_amqp.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

WAITERS = 4
TURNS = 5_000


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns after a microsecond."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_what_comes_after_the_first_is_ignored_also_while_others_wait() -> None:
    reply: Reply[int] = Reply()
    reply.set(1)

    def wait() -> bool:
        return all(reply.wait(1.0) and reply.done for _ in range(TURNS))

    def come_again() -> None:
        for _ in range(TURNS):
            reply.set(2)
            reply.fail(ValueError())

    with ThreadPoolExecutor(WAITERS + 1) as pool:
        waits = [pool.submit(wait) for _ in range(WAITERS)]
        later = pool.submit(come_again)
        assert all(one.result() for one in waits)
        later.result()
    assert reply.result() == 1


def test_an_error_is_raised_for_all_who_wait() -> None:
    reply: Reply[int] = Reply()
    assert not reply.wait(0.0)
    reply.fail(ValueError("why"))
    reply.set(1)
    assert reply.wait(0.0)
    assert isinstance(reply.error, ValueError)
    assert reply.value is None
