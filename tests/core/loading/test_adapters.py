from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Literal

import pytest

from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker.loading import known_schemes, load_backend, load_broker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.core.loading.conftest import Install

ADAPTER = """
class Adapter:
    def __init__(self, url):
        self.url = url

    @classmethod
    def from_url(cls, url):
        return cls(url)
"""


def refusal(url: str, role: Literal["broker", "backend"] = "broker") -> str:
    with pytest.raises(ConfigurationError) as caught:
        (load_broker if role == "broker" else load_backend)(url)
    text = str(caught.value)
    assert "hunter2" not in text
    assert len(text.splitlines()) == 1
    return text


@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
def test_the_built_in_adapters_come_through_the_door_that_strangers_use(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}://" if scheme == "memory" else f"{scheme}:///{tmp_path}/tasks.db"
    broker, backend = load_broker(url), load_backend(url)
    assert type(broker).__name__ == f"{scheme.title()}Broker"
    assert type(backend).__name__ == f"{scheme.title()}Backend"
    broker.close()
    backend.close()


def test_an_adapter_of_a_stranger_gets_the_url_as_it_was_written(install: Install) -> None:
    install(
        "acme-queue", "acme_queue", ADAPTER, brokers="acme = acme_queue:Adapter", backends="acme=acme_queue:Adapter"
    )
    for load in (load_broker, load_backend):
        adapter = load("acme://u:p%40@h?x=1")
        assert vars(adapter) == {"url": "acme://u:p%40@h?x=1"}
    assert "acme" in known_schemes("broker")
    assert "acme" in known_schemes("backend")


def test_known_schemes_are_those_that_can_have_the_role() -> None:
    assert {"memory", "sqlite", "redis", "amqp", "sqs", "pubsub", "mongodb"} <= set(known_schemes("broker"))
    assert {"memory", "sqlite", "redis", "amqp", "memcache", "mongodb"} <= set(known_schemes("backend"))
    assert "memcache" not in known_schemes("broker")
    assert not {"sqs", "pubsub"} & set(known_schemes("backend"))
    assert known_schemes("broker") == sorted(known_schemes("broker"))


@pytest.mark.parametrize("role", ["broker", "backend"])
@pytest.mark.parametrize(
    ("typo", "meant"), [("reddis", "redis"), ("sqlit", "sqlite"), ("mongdb", "mongodb"), ("ampq", "amqp")]
)
def test_a_misspelt_scheme_names_the_nearest_and_all_known_ones(
    typo: str, meant: str, role: Literal["broker", "backend"]
) -> None:
    text = refusal(f"{typo}://u:hunter2@h/0", role)
    assert text.startswith(f"unknown scheme '{typo}://' in {typo}://u:***@h/0; did you mean '{meant}://'? known: ")
    assert all(f"{scheme}://" in text for scheme in known_schemes(role))


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(
    ("scheme", "role", "extra"),
    [
        *[
            (scheme, "broker", "redis")
            for scheme in ("redis", "rediss", "redis+unix", "unix", "redis+sentinel", "redis+cluster")
        ],
        ("redis", "backend", "redis"),
        ("amqp", "broker", "amqp"),
        ("amqps", "backend", "amqp"),
        ("sqs", "broker", "sqs"),
        ("pubsub", "broker", "pubsub"),
        ("mongodb", "broker", "mongodb"),
        ("mongodb+srv", "backend", "mongodb"),
        ("memcache", "backend", "memcache"),
        ("memcache+unix", "backend", "memcache"),
    ],
)
@pytest.mark.usefixtures("nothing_installed")
def test_what_is_not_installed_is_told_the_exact_command(
    scheme: str, role: Literal["broker", "backend"], extra: str
) -> None:
    assert refusal(f"{scheme}://u:hunter2@h", role) == (
        f'{scheme}:// is not installed; run: pip install "anybroker[{extra}]"'
    )


@pytest.mark.usefixtures("nothing_installed")
def test_without_its_own_metadata_anybroker_asks_to_be_installed() -> None:
    assert refusal("memory://") == "memory:// is not installed; run: pip install anybroker"


def test_a_missing_driver_of_ours_is_told_the_extra(install: Install) -> None:
    install("anybroker-broker-redis", "lonely_redis", "import no_such_driver", brokers="redis = lonely_redis:Adapter")
    assert refusal("redis://u:hunter2@h") == (
        "redis:// cannot be used: No module named 'no_such_driver'; run: pip install \"anybroker[redis]\""
    )


def test_a_missing_driver_of_a_stranger_is_told_the_package(install: Install) -> None:
    code = "class Adapter:\n    @classmethod\n    def from_url(cls, url):\n        import no_such_driver\n"
    install("acme-queue", "acme_late", code, brokers="acme = acme_late:Adapter")
    assert (
        refusal("acme://h")
        == "acme:// cannot be used: No module named 'no_such_driver'; run: pip install \"acme-queue\""
    )


def test_a_driver_that_is_part_of_python_is_not_to_be_installed(install: Install) -> None:
    install("anybroker", "no_sqlite", "import no_such_sqlite3", brokers="sqlite = no_sqlite:Adapter")
    assert refusal("sqlite://").endswith("this installation of Python or anybroker is incomplete")


@pytest.mark.parametrize(
    ("url", "role", "text"),
    [
        ("memcache://h", "broker", "memcache is a result backend only: no broker for memcache; use e.g. redis://"),
        (
            "memcache+unix:///s",
            "broker",
            "memcache is a result backend only: no broker for memcache; use e.g. redis://",
        ),
        ("sqs://", "backend", "sqs is a broker only: no result backend for sqs; use e.g. redis://"),
        ("pubsub://p", "backend", "pubsub is a broker only: no result backend for pubsub; use e.g. redis://"),
    ],
)
def test_a_service_without_the_role_says_so(url: str, role: Literal["broker", "backend"], text: str) -> None:
    assert refusal(url, role) == text


def test_a_stranger_without_the_role_says_so(install: Install) -> None:
    install("acme-queue", "acme_broker", ADAPTER, brokers="acme = acme_broker:Adapter")
    assert refusal("acme://h", "backend") == "acme is a broker only: no result backend for acme; use e.g. redis://"


@pytest.mark.parametrize(
    ("scheme", "hint"),
    [
        ("rabbitmq", "amqp://"),
        ("mongo", "mongodb://"),
        ("gcpubsub", "pubsub://"),
        ("sqs+https", "sqs://"),
        ("file", "sqlite:///"),
        ("http", "the broker itself"),
        ("https", "the broker itself"),
        *[(scheme, "there is no adapter for it") for scheme in ("postgres", "postgresql", "mysql", "kafka", "nats")],
    ],
)
def test_schemes_of_other_systems_get_a_hint(scheme: str, hint: str) -> None:
    text = refusal(f"{scheme}://u:hunter2@h/x")
    assert text.startswith(f"unknown scheme '{scheme}' in {scheme}://u:***@h/x: ")
    assert hint in text


def test_an_odd_error_of_an_adapter_is_wrapped_with_its_cause(install: Install) -> None:
    code = (
        "class Adapter:\n    @classmethod\n    def from_url(cls, url):\n"
        "        raise KeyError(f'no\\nway {url} hunter2')\n"
    )
    install("acme-queue", "acme_odd", code, brokers="acme = acme_odd:Adapter")
    with pytest.raises(ConfigurationError) as caught:
        load_broker("acme://u:hunter2@h/0")
    assert isinstance(caught.value.__cause__, KeyError)
    assert str(caught.value).startswith("acme://u:***@h/0 cannot be used: KeyError: ")
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_our_own_errors_pass_without_the_password(install: Install) -> None:
    code = (
        "from anybroker.errors import BrokerUnavailable\n"
        "class Adapter:\n    @classmethod\n    def from_url(cls, url):\n"
        "        raise BrokerUnavailable(f'{url} is down, and hunter2 too', stored=['a'])\n"
    )
    install("acme-queue", "acme_down", code, brokers="acme = acme_down:Adapter")
    with pytest.raises(BrokerUnavailable) as caught:
        load_broker("acme://u:hunter2@h/0")
    assert str(caught.value) == "acme://u:***@h/0 is down, and *** too"
    assert caught.value.stored == {"a"}


def test_a_class_that_is_no_adapter_is_refused(install: Install) -> None:
    install("acme-queue", "acme_none", "class Adapter: pass", brokers="acme = acme_none:Adapter")
    assert "AttributeError: type object 'Adapter' has no attribute 'from_url'" in refusal("acme://h")


def test_an_entry_point_to_nothing_is_refused(install: Install) -> None:
    install("acme-queue", "acme_void", "", brokers="acme = acme_void:Adapter")
    assert "AttributeError" in refusal("acme://h")


def test_two_packages_for_one_scheme_are_refused(install: Install) -> None:
    install("acme-one", "acme_one", ADAPTER, brokers="acme = acme_one:Adapter")
    install("acme-two", "acme_two", ADAPTER, brokers="acme = acme_two:Adapter")
    assert refusal("acme://h") == (
        "acme:// is offered by several packages, acme_one:Adapter and acme_two:Adapter; uninstall all but one"
    )


def test_importing_neither_looks_for_adapters_nor_reads_files() -> None:
    code = (
        "import sys; before = set(sys.modules); import anybroker.loading, anybroker.settings; "
        "print(*({'importlib.metadata', 'difflib', 'tomllib', 'yaml'} & (set(sys.modules) - before)))"
    )
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert process.stdout.strip() == ""
