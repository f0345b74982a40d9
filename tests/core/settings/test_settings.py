from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anybroker import App
from anybroker.errors import ConfigurationError
from anybroker.settings import Settings
from anybroker.validation import check_queue_name


@pytest.mark.parametrize(
    ("url", "results_url", "effective"),
    [
        ("memory://", None, "memory://"),
        ("sqlite:///x.db", None, "sqlite:///x.db"),
        ("redis://h", None, "redis://h"),
        ("sqs://", None, None),
        ("reddis://", None, None),
        ("redis://h", "", None),
        ("redis://h", "none", None),
        ("redis://h", "None", None),
        ("sqs://", "redis://h", "redis://h"),
    ],
)
def test_results_go_where_the_tasks_go_unless_told_otherwise(
    url: str, results_url: str | None, effective: str | None
) -> None:
    assert Settings(url=url, results_url=results_url).backend_url == effective


def test_a_malformed_broker_url_is_reported_when_results_depend_on_it() -> None:
    with pytest.raises(ConfigurationError, match="no scheme"):
        _ = Settings(url="localhost:6379").backend_url


def test_no_suffix_is_so_long_that_a_dead_letter_queue_could_not_be_named() -> None:
    app = App("memory://", dead_queue_suffix="s" * 40)
    assert check_queue_name(app.dead_queue("q" * 80)).endswith("s" * 40)
    with pytest.raises(ConfigurationError, match="dead_queue_suffix"):
        App("memory://", dead_queue_suffix="s" * 80)


def test_repr_shows_what_is_set_and_no_secret() -> None:
    shown = repr(
        Settings(
            url="redis://u:hunter2@h/0",
            results_url="redis://h?password=hunter2",
            signing_keys={"k1": "hunter2"},
            concurrency=3,
        )
    )
    assert shown.startswith("Settings(url='redis://u:***@h/0', results_url='redis://h?password=***', ")
    assert "signing_keys={'k1': '***'}" in shown
    assert "concurrency=3" in shown
    assert "hunter2" not in shown


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1))
def test_settings_look_the_same_whatever_the_secrets(secret: str) -> None:
    def make(secret: str) -> Settings:
        url = f"redis://u:{quote(secret, safe='')}@h/0"
        return Settings(url=url, results_url=url, signing_keys={"a": secret})

    found, other = make(secret), make("another")
    assert (repr(found), str(found)) == (repr(other), str(other))
    assert found.__rich_repr__() == other.__rich_repr__()
