from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from anybroker.errors import ConfigurationError
from anybroker.settings import Settings, load_settings


def refusal(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path.parent, {})
    text = str(caught.value)
    assert str(path) in text
    assert "hunter2" not in text
    assert len(text.splitlines()) == 1
    return text


FULL = Settings(
    url="redis://h",
    results_url="none",
    results_ttl=None,
    codec="msgpack",
    signing_keys={"new": "s1", "old": "s2"},
    lease=timedelta(minutes=2),
    grace=timedelta(seconds=1.5),
    concurrency=2,
    queues=("a", "b"),
)
TOML = """
url = "redis://h"
results_url = "none"
results_ttl = "forever"
codec = "msgpack"
signing_keys = {new = "s1", old = "s2"}
lease = "2m"
grace = 1.5
concurrency = 2
queues = ["a", "b"]
"""
YAML = """
url: redis://h
results_url: none
results_ttl: forever
codec: msgpack
signing_keys:
  new: s1
  old: s2
lease: 2m
grace: 1.5
concurrency: 2
queues: [a, b]
"""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("anybroker.toml", TOML),
        ("pyproject.toml", f"[project]\nname = 'x'\n[tool.anybroker]{TOML}"),
        ("anybroker.yaml", YAML),
        ("anybroker.yml", YAML),
    ],
)
def test_a_file_holds_every_kind_of_setting(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    assert load_settings(tmp_path, {}) == FULL


@pytest.mark.parametrize("name", ["anybroker.toml", "anybroker.yaml"])
def test_an_empty_file_holds_the_defaults(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("")
    assert load_settings(tmp_path, {}) == Settings()


@pytest.mark.parametrize(
    ("name", "line"),
    [("anybroker.toml", "{} = {}"), ("pyproject.toml", "[tool.anybroker]\n{} = {}"), ("anybroker.yaml", "{}: {}")],
)
class TestKeys:
    def test_an_unknown_key_names_the_nearest_and_the_file(self, name: str, line: str, tmp_path: Path) -> None:
        text = refusal(tmp_path / name, line.format("concurency", 4))
        assert text.startswith(f"unknown key 'concurency' in {tmp_path / name}; did you mean 'concurrency'? known: ")

    def test_a_wrong_type_names_the_file_the_key_and_what_is_expected(
        self, name: str, line: str, tmp_path: Path
    ) -> None:
        text = refusal(tmp_path / name, line.format("concurrency", '"hunter2"'))
        assert text == f"the key 'concurrency' in {tmp_path / name} does not fit; expected `int`, got `str`"

    def test_an_impossible_duration_says_how_to_write_one(self, name: str, line: str, tmp_path: Path) -> None:
        assert "such as 30s, 5m, 2h or 7d" in refusal(tmp_path / name, line.format("lease", '"half an hour"'))


@pytest.mark.parametrize("name", ["anybroker.toml", "pyproject.toml"])
def test_a_toml_syntax_error_names_the_file_and_the_line(name: str, tmp_path: Path) -> None:
    assert "line 3" in refusal(tmp_path / name, "\n[tool.anybroker]\nurl = redis://u:hunter2@h\n")


@pytest.mark.parametrize(
    "content",
    ["a = " + "[" * 5000, "a = " + "9" * 5000, "a = " + "{b=" * 5000],
    ids=["nested lists", "digits", "nested tables"],
)
def test_toml_that_overwhelms_the_parser_is_refused(content: str, tmp_path: Path) -> None:
    assert "is not valid TOML" in refusal(tmp_path / "anybroker.toml", content)


@pytest.mark.parametrize("content", ["tool.anybroker = 3", "[[tool.anybroker]]\nurl = 'x'"])
def test_our_part_of_pyproject_is_a_table(content: str, tmp_path: Path) -> None:
    assert "write [tool.anybroker]" in refusal(tmp_path / "pyproject.toml", content)


def test_a_yaml_syntax_error_names_the_file_and_the_line_and_quotes_nothing(tmp_path: Path) -> None:
    text = refusal(tmp_path / "anybroker.yaml", "codec: json\nsigning_keys: {a: *hunter2}\n")
    assert text == f"{tmp_path / 'anybroker.yaml'} is not valid YAML in line 2"


@pytest.mark.parametrize(
    "content",
    ["a: !!int ''", "a: !!timestamp x", "a: !!bool x", "a: 2001-99-99", "? {}\n: 1", "[" * 1500, "a: \x01", "a: !x y"],
    ids=["int", "timestamp", "bool", "date", "key", "nested", "control", "tag"],
)
def test_yaml_that_overwhelms_the_parser_is_refused(content: str, tmp_path: Path) -> None:
    assert "is not valid YAML" in refusal(tmp_path / "anybroker.yaml", content)


@pytest.mark.parametrize("content", ["- url", "hunter2", "5"])
def test_yaml_that_is_no_mapping_is_refused(content: str, tmp_path: Path) -> None:
    assert "write one 'name: value' a line" in refusal(tmp_path / "anybroker.yaml", content)


@pytest.mark.parametrize("name", ["anybroker.toml", "pyproject.toml", "anybroker.yaml"])
def test_a_file_that_is_not_utf8_names_the_line(name: str, tmp_path: Path) -> None:
    assert refusal(tmp_path / name, b"a = 1\n# caf\xe9\n").endswith("is not UTF-8 in line 2")


@pytest.mark.parametrize("name", ["anybroker.yaml", "anybroker.yml"])
def test_without_pyyaml_a_yaml_file_asks_for_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert refusal(tmp_path / name, "codec: json").endswith("needs PyYAML; run: pip install pyyaml")


def test_without_pyyaml_toml_is_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "anybroker.yaml").write_text("codec: json")
    (tmp_path / "anybroker.toml").write_text("codec = 'msgpack'")
    assert load_settings(tmp_path, {}).codec == "msgpack"


def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")  # chmod does not stop root

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert refusal(tmp_path / "anybroker.toml", "").endswith("cannot be read: Permission denied")


def test_a_folder_with_the_name_of_a_file_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "anybroker.toml").mkdir()
    assert load_settings(tmp_path, {}) == Settings()


def test_a_directory_may_be_relative_or_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "anybroker.toml").write_text("codec = 'msgpack'")
    monkeypatch.chdir(tmp_path)
    assert load_settings(Path("not") / os.pardir / "there", {}).codec == "msgpack"
