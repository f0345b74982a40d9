"""The servers that tests share: one that has died is told of, and runs again for the next test."""

from __future__ import annotations

import signal

import pytest

from anybroker_conformance.services import process
from tests import live


def test_who_looks_at_a_suite_starts_no_server() -> None:
    server = live.Service("memcached")

    class Suite:
        url = live.Url(server)

    assert not hasattr(Suite, "url")
    assert server not in live._started


@pytest.mark.services
@pytest.mark.slow
def test_a_server_that_has_died_is_told_of_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HOW", "local")
    server = live.Service("memcached")
    try:
        assert server.running.ended == []
        assert server.revive() is None
        log = server.folder / "memcached" / "memcached" / "log"
        log.write_text("its last words\n")
        died = process.read(log.parent)
        assert died
        process.end(died, signal.SIGKILL, 10)
        [words] = live.revive_all()
        assert "memcached" in words
        assert "its last words" in words
        assert server.running.ended == []
        assert live.revive_all() == []
    finally:
        live._started.remove(server)
        server.end()
