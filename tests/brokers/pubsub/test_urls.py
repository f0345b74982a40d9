"""What a Pub/Sub URL may say, what is said of one that cannot work, and what queues are called. No server is needed."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from datetime import timedelta

import pytest

from anybroker.capabilities import Durability, Guarantee
from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker.loading import load_broker
from anybroker_broker_pubsub.forks import SUPPORT
from anybroker_broker_pubsub.names import Names
from anybroker_broker_pubsub.options import read_settings

GOOD = [
    "pubsub://my-project",
    "pubsub://my-project/",
    "pubsub://example.com:my-project/".replace(":my", "%3Amy"),
    "pubsub://p1/?endpoint=localhost:8085&prefix=shop-&create=no",
    "pubsub://p1/?endpoint=europe-west1-pubsub.googleapis.com:443&exactly_once=yes",
    "pubsub://p1/?ack_deadline=10m&retention=1h",
    "pubsub://p1/?ordering=yes&exactly_once=yes",
]
BAD = {
    "pubsub://": "names no project",
    "pubsub:///x": "names no project",
    "pubsub://p1/queue": "names no project",
    "pubsub://localhost:8085/": "pubsub://project/?endpoint=host:port",
    "pubsub://me:s3cret@p1/": "GOOGLE_APPLICATION_CREDENTIALS",
    "pubsub://p1/?prefx=x": "did you mean 'prefix'?",
    "pubsub://p1/?prefix=1x-": "begins with a letter",
    "pubsub://p1/?prefix=google-": "not with goog",
    "pubsub://p1/?ack_deadline=5": "10 s to 600 s",
    "pubsub://p1/?ack_deadline=11m": "10 s to 600 s",
    "pubsub://p1/?retention=5m": "10 minutes to 31 days",
    "pubsub://p1/?retention=32d": "10 minutes to 31 days",
    "pubsub://p1/?endpoint=http://localhost:8085": "host:port",
    "pubsub://p1/?endpoint=localhost": "host:port",
    "pubsub://p1/?create=perhaps": "yes or no",
}
NAMES = [
    "mail",
    "Mail",
    "MAIL",
    "a.b_c-d",
    "x" * 80,
    "~later",
    "later",
    "~",
    "é",
    "e\u0301",
    "日本語" * 26,
    "a b",
    "%",
    "+",
]


@pytest.fixture(autouse=True)
def _no_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)


@pytest.mark.parametrize("url", GOOD)
def test_nothing_is_connected(url: str) -> None:
    broker = load_broker(url)
    broker.close()
    with pytest.raises(BrokerUnavailable, match="closed"):
        broker.acquire(["q"], limit=1, wait=0, lease=10)


@pytest.mark.parametrize("url", BAD)
def test_a_mistake_says_what_to_write(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_broker(url)
    assert BAD[url] in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_grpc_was_loaded_by_the_adapter_so_that_forks_of_these_tests_work() -> None:
    """The first to load it decides, for the whole process; see conftest.py."""
    assert os.environ[SUPPORT] == "1"


def test_what_is_declared_depends_on_the_url() -> None:
    emulated = load_broker("pubsub://p1/?endpoint=localhost:8085").capabilities
    real = load_broker("pubsub://p1/?exactly_once=yes&ack_deadline=20").capabilities
    assert (emulated.durability, real.durability) == (Durability.PROCESS, Durability.POWER_CUT)
    assert (emulated.fencing, real.fencing) == (Guarantee.BEST_EFFORT, Guarantee.EXACT)
    assert (real.exclusive, real.final) == (Guarantee.BEST_EFFORT, Guarantee.BEST_EFFORT), "what has an eta may be two"
    assert (emulated.transit, real.transit) == (31.0, 21.0)


def test_the_emulator_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "localhost:8085")
    assert read_settings("pubsub://p1/").endpoint == "localhost:8085"
    assert read_settings("pubsub://p1/").emulated
    assert read_settings("pubsub://p1/").retention == timedelta(days=7)
    assert read_settings("pubsub://p1/?endpoint=pubsub.googleapis.com:443").retention == timedelta(days=31)


def test_every_queue_has_a_name_of_its_own_that_pubsub_takes() -> None:
    names = Names("p1", "anybroker-")
    found = [*(names.of(queue) for queue in NAMES), names.later]
    assert len(set(found)) == len(found)
    assert all(len(name) <= 255 and name.isascii() and name[0].isalpha() for name in found)
    assert names.of("mail") == "anybroker-mail"
    assert names.topic("x") == "projects/p1/topics/x"


def test_a_name_that_is_not_readable_is_in_the_labels() -> None:
    labels = Names("p1", "anybroker-").labels("日本語" * 26)
    assert all(len(value) <= 63 for value in labels.values())
    text = "".join(labels[f"anybroker-queue-{number}"] for number in range(len(labels))).upper()
    assert base64.b32decode(text + "=" * (-len(text) % 8)).decode() == "日本語" * 26
    assert Names("p1", "anybroker-").labels("mail") == {}


def test_missing_credentials_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nowhere = str(tmp_path_factory.mktemp("home"))
    monkeypatch.setenv("HOME", nowhere)
    monkeypatch.setenv("CLOUDSDK_CONFIG", nowhere)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(ConfigurationError, match="gcloud auth application-default login"):
        load_broker("pubsub://p1/").acquire(["q"], limit=1, wait=0, lease=10)


def test_core_does_not_import_grpc() -> None:
    script = "import sys, anybroker; assert not {'grpc', 'google.api_core'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], env=os.environ, check=True)
