"""No file, variable or argument makes ``load_settings`` raise anything but ConfigurationError, or show a secret."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anybroker.errors import ConfigurationError
from anybroker.settings import Settings, load_settings

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


NAMES = st.sampled_from(Settings.__struct_fields__)
SECRET = "hunter2"
TOKENS = NAMES | st.sampled_from(
    [
        *"=:[]{}#&*!|>%@`'\",.-?\n\t\x00\\ ",
        *("\n", " = ", ": ", "- ", "[tool.anybroker]", "!!int", "!!binary ", "&a", "*a", "---", "<<: ", f"*{SECRET}"),
        *("2001-01-01", "1e9999", "0x", "inf", "nan", "true", "null", "~", "30s", f"redis://u:{SECRET}@h", SECRET),
    ]
)
LINES = st.tuples(NAMES, st.sampled_from([" = ", ": "]), st.lists(TOKENS, max_size=4).map("".join)).map("".join)
CONTENTS = st.one_of(
    st.binary(),
    st.text().map(str.encode),
    st.lists(TOKENS, max_size=20).map("".join).map(str.encode),
    st.lists(LINES, max_size=4).map("\n".join).map(str.encode),
    st.lists(LINES, max_size=2).map(lambda lines: "\n".join(["[tool.anybroker]", *lines])).map(str.encode),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.timedeltas(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=4,
)


def load(directory: Path, environ: dict[str, str], **explicit: Any) -> None:
    try:
        found = load_settings(directory, environ, **explicit)
    except ConfigurationError as exc:
        shown = re.sub("unknown key '[^:/@]*'", "", str(exc))  # a name is shown, unless it is a URL
        assert SECRET not in shown
        assert len(str(exc).splitlines()) == 1  # noqa: PT017
    else:
        assert isinstance(found, Settings)


@pytest.mark.parametrize("cases", [50, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.soak])])
@pytest.mark.parametrize("name", ["anybroker.toml", "pyproject.toml", "anybroker.yaml"])
def test_any_file_is_read_or_a_configuration_error(name: str, cases: int, tmp_path: Path) -> None:
    @settings(max_examples=cases, deadline=None)
    @given(CONTENTS)
    def check(content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        load(tmp_path, {})

    check()


@pytest.mark.parametrize("cases", [100, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.soak])])
def test_any_environment_is_read_or_a_configuration_error(cases: int, tmp_path: Path) -> None:
    names = NAMES.map(str.upper) | st.text(string.ascii_uppercase + "_", max_size=12)
    texts = st.text(st.characters()) | st.lists(TOKENS, max_size=4).map("".join)

    @settings(max_examples=cases, deadline=None)
    @given(st.dictionaries(names.map("ANYBROKER_{}".format), texts, max_size=4))
    def check(environ: dict[str, str]) -> None:
        load(tmp_path, environ)

    check()


@pytest.mark.parametrize("cases", [100, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.soak])])
def test_any_argument_is_taken_or_a_configuration_error(cases: int, tmp_path: Path) -> None:
    @settings(max_examples=cases, deadline=None)
    @given(st.dictionaries(NAMES | st.text(string.ascii_lowercase, min_size=1), VALUES, max_size=3))
    def check(explicit: dict[str, Any]) -> None:
        explicit.pop("directory", None)
        explicit.pop("environ", None)
        load(tmp_path, {}, **explicit)

    check()
