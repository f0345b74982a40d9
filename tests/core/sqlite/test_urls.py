"""``sqlite://`` URLs and their options."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from anybroker.capabilities import Durability
from anybroker.errors import ConfigurationError
from anybroker.sqlite import SqliteBackend, SqliteBroker

if TYPE_CHECKING:
    from pathlib import Path


def test_absolute_path__four_slashes(path: Path) -> None:
    with closing(SqliteBroker.from_url(f"sqlite:///{path}")) as broker:
        assert broker._database.path == path.resolve()


def test_relative_path__three_slashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(SqliteBackend.from_url("sqlite:///here.db")) as backend:
        assert backend._database.path == tmp_path.resolve() / "here.db"


def test_options__of_the_broker(path: Path) -> None:
    url = f"sqlite:///{path}?synchronous=normal&max_body=10&busy_timeout=2s"
    with closing(SqliteBroker.from_url(url)) as broker:
        assert broker.capabilities.durability is Durability.SERVER
        assert broker.capabilities.max_body == 10
        assert broker._database.busy_timeout == 2
    with closing(SqliteBroker.from_url(f"sqlite:///{path}")) as broker:
        assert broker.capabilities.durability is Durability.POWER_CUT


def test_options__of_the_backend(path: Path) -> None:
    with closing(SqliteBackend.from_url(f"sqlite:///{path}?group_ttl=1h&max_body=10")) as backend:
        assert backend.capabilities.max_body == 10


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        ("sqlite://", "write sqlite:///anybroker.db"),
        ("sqlite:///", "write sqlite:///anybroker.db"),
        ("sqlite://tasks.db", "write sqlite:///tasks.db"),
        ("sqlite://data/tasks.db", "write sqlite:///data/tasks.db"),
        ("redis://localhost", "not redis://"),
        ("sqlite:///tasks.db?synchronus=full", "did you mean 'synchronous'"),
        ("sqlite:///tasks.db?synchronous=off", "full, normal"),
        ("sqlite:///tasks.db?max_body=0", "max_body"),
    ],
)
def test_mistakes__are_answered_with_what_to_write(url: str, answer: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SqliteBroker.from_url(url)
    assert answer in str(caught.value)


def test_broker_and_backend_on_one_file__share_one_connection(path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    with closing(SqliteBroker(path)) as broker, closing(SqliteBackend(link)) as backend:
        assert broker._database is backend._database
