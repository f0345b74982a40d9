from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from anybroker.errors import ConfigurationError
from anybroker.settings import Settings, load_settings

if TYPE_CHECKING:
    from pathlib import Path

URL = "redis://{}"
FILES = {
    "anybroker.toml": "url = 'redis://{}'\n",
    "pyproject.toml": "[tool.anybroker]\nurl = 'redis://{}'\n",
    "anybroker.yaml": "url: redis://{}\n",
    "anybroker.yml": "url: redis://{}\n",
}


def write(directory: Path, name: str, host: str | None = None) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(FILES[name].format(host or name))


def test_without_any_source_the_documented_defaults_hold(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {})
    assert settings == Settings()
    assert settings == Settings(
        url="sqlite:///anybroker.db",
        results_url=None,
        results_ttl=timedelta(days=1),
        default_queue="default",
        dead_queue_suffix=".dead",
        codec="json",
        signing_keys={},
        lease=timedelta(seconds=30),
        max_deliveries=5,
        grace=timedelta(seconds=30),
        concurrency=16,
        processes=0,
        queues="",
    )


def test_the_sources_take_precedence_in_the_documented_order(tmp_path: Path) -> None:
    found = []
    environ: dict[str, str] = {}
    for name in reversed(FILES):
        write(tmp_path, name)
        found.append(load_settings(tmp_path, environ).url)
    environ["ANYBROKER_URL"] = "redis://environment"
    found.append(load_settings(tmp_path, environ).url)
    found.append(load_settings(tmp_path, environ, url="redis://argument").url)
    assert found == [URL.format(source) for source in (*reversed(FILES), "environment", "argument")]


@pytest.mark.parametrize("name", FILES)
def test_the_nearest_directory_upwards_counts(name: str, tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    write(tmp_path, "anybroker.toml", "far")
    write(tmp_path / "a", name, "near")
    assert load_settings(deep, {}).url == "redis://near"


def test_only_one_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "anybroker.toml").write_text("concurrency = 3")
    write(tmp_path, "pyproject.toml")
    assert load_settings(tmp_path, {}) == Settings(concurrency=3)


def test_a_pyproject_without_our_table_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.other]\nurl = 'x'\n")
    write(tmp_path, "anybroker.yaml")
    assert load_settings(tmp_path, {}).url == "redis://anybroker.yaml"


def test_the_current_directory_and_the_environment_are_what_is_read_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "anybroker.toml", "file")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANYBROKER_URL", raising=False)
    monkeypatch.setenv("ANYBROKER_CONCURRENCY", "7")
    settings = load_settings()
    assert (settings.url, settings.concurrency) == ("redis://file", 7)


def test_an_argument_that_is_none_counts_as_not_given(tmp_path: Path) -> None:
    assert load_settings(tmp_path, {"ANYBROKER_URL": "redis://h"}, url=None, lease=None).url == "redis://h"


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("ANYBROKER_RESULTS_URL", "redis://h", "results_url", "redis://h"),
        ("ANYBROKER_RESULTS_URL", "", "results_url", ""),
        ("ANYBROKER_RESULTS_TTL", "2h", "results_ttl", timedelta(hours=2)),
        ("ANYBROKER_RESULTS_TTL", "forever", "results_ttl", None),
        ("ANYBROKER_DEFAULT_QUEUE", "mail", "default_queue", "mail"),
        ("ANYBROKER_DEAD_QUEUE_SUFFIX", "-dead", "dead_queue_suffix", "-dead"),
        ("ANYBROKER_CODEC", "msgpack", "codec", "msgpack"),
        ("ANYBROKER_SIGNING_KEYS", "b:two:2, a:one", "signing_keys", {"b": "two:2", "a": "one"}),
        ("ANYBROKER_LEASE", "45", "lease", timedelta(seconds=45)),
        ("ANYBROKER_MAX_DELIVERIES", "9", "max_deliveries", 9),
        ("ANYBROKER_GRACE", "0", "grace", timedelta(0)),
        ("ANYBROKER_CONCURRENCY", "4", "concurrency", 4),
        ("ANYBROKER_PROCESSES", "2", "processes", 2),
        ("ANYBROKER_QUEUES", "mail:3,default:1", "queues", "mail:3,default:1"),
        ("ANYBROKER_LEASE", "", "lease", timedelta(seconds=30)),
    ],
)
def test_every_field_has_its_variable(variable: str, text: str, field: str, value: object, tmp_path: Path) -> None:
    assert getattr(load_settings(tmp_path, {variable: text}), field) == value


def test_the_first_signing_key_stays_the_first(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {"ANYBROKER_SIGNING_KEYS": "z:1,a:2"})
    assert list(settings.signing_keys) == ["z", "a"]


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("ANYBROKER_CONCURRENCY", "many", "`int`"),
        ("ANYBROKER_CONCURRENCY", "0", "`int` >= 1"),
        ("ANYBROKER_CONCURRENCY", "\udcff", "a text in UTF-8"),
        ("ANYBROKER_PROCESSES", "-1", "`int` >= 0"),
        ("ANYBROKER_CODEC", "pickle", "json or msgpack"),
        ("ANYBROKER_LEASE", "long", "a duration such as 30s"),
        ("ANYBROKER_LEASE", "0", "a longer duration"),
        ("ANYBROKER_DEFAULT_QUEUE", "q" * 81, "of length <= 80"),
        ("ANYBROKER_SIGNING_KEYS", "hunter2", "id:secret,id2:secret2"),
        ("ANYBROKER_SIGNING_KEYS", "a:hunter2,a:hunter3", "id:secret,id2:secret2"),
    ],
)
def test_an_unfit_variable_is_named_with_what_is_expected(
    variable: str, text: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path, {variable: text})
    assert str(caught.value).startswith(f"the variable {variable} does not fit; expected ")
    assert expected in str(caught.value)
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("CONCURENCY", "CONCURRENCY"),
        ("QUEUE", "QUEUES"),
        ("RESULT_URL", "RESULTS_URL"),
        ("SIGNING_KEY", "SIGNING_KEYS"),
    ],
)
def test_a_variable_that_is_nearly_ours_is_a_mistake(typo: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"^unknown variable ANYBROKER_{typo}; did you mean ANYBROKER_{meant}\?$"
    ):
        load_settings(tmp_path, {f"ANYBROKER_{typo}": "x"})


@pytest.mark.parametrize("name", ["TEST_REDIS_URL", "SERVICE_HOST", "PORT", "LOG_LEVEL", "RELEASE", ""])
def test_a_variable_of_somebody_else_is_left_alone(name: str, tmp_path: Path) -> None:
    assert load_settings(tmp_path, {f"ANYBROKER_{name}": "x"}) == Settings()


def test_an_unknown_argument_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"unknown argument 'result_url' .*; did you mean 'results_url'\? known: "
    ):
        load_settings(tmp_path, {}, result_url="x")


def test_arguments_are_typed(tmp_path: Path) -> None:
    settings = load_settings(
        tmp_path, {}, lease=timedelta(minutes=1), grace=2.5, queues=["a", "b"], results_ttl="forever"
    )
    assert settings == Settings(
        lease=timedelta(minutes=1), grace=timedelta(seconds=2.5), queues=("a", "b"), results_ttl=None
    )
    for unfit in ({"concurrency": "4"}, {"lease": True}, {"lease": timedelta(-1)}, {"url": 5}, {"queues": [1]}):
        with pytest.raises(ConfigurationError, match=rf"the argument '{next(iter(unfit))}' of the app does not fit"):
            load_settings(tmp_path, {}, **unfit)
