"""What is asked of a server: nothing that came after Redis 6.2, by the server's own documentation of its commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis as redis_py

import anybroker_backend_redis
import anybroker_broker_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anybroker_conformance.services import Running

pytestmark = [pytest.mark.services]

OLDEST = (6, 2)
FIRST = "1.0.0"
SOURCES = [
    file
    for package in (anybroker_broker_redis, anybroker_backend_redis)
    for file in Path(package.__path__[0]).rglob("*")
    if file.suffix in {".lua", ".py"}
]
COMMAND = re.compile(r"""\(["']([A-Z]{3,})["']""")
WORD = re.compile(r"""["']([A-Z]+)["']""")


def test_no_command_and_no_option_is_newer_than_redis_6_2(redis: Running) -> None:
    used = {(command, word) for file in SOURCES for command, word in _used(file.read_text(encoding="utf-8"))}
    assert {("ZMSCORE", ""), ("SET", "PX"), ("ZRANGE", "WITHSCORES"), ("BLPOP", "")} <= used
    with redis_py.Redis(port=redis.ports["redis"], decode_responses=True, protocol=2) as client:
        since = {(command, word): _since(client, command, word) for command, word in used}
    assert {use: version for use, version in since.items() if version[:2] > OLDEST} == {}


def _used(source: str) -> Iterator[tuple[str, str]]:
    """Each command of a source, and each command with a word that it is given."""
    for line in source.splitlines():
        _, *parts = COMMAND.split(line)
        for command, arguments in zip(parts[::2], parts[1::2], strict=True):
            yield command, ""
            for word in WORD.findall(arguments):
                yield command, word


def _since(client: redis_py.Redis, command: str, word: str) -> tuple[int, ...]:
    """The version that brought a command, or a word of it."""
    name = f"{command}|{word}".lower() if command == "CONFIG" and word else command.lower()
    documented = _pairs(client.execute_command("COMMAND DOCS", name))[name]
    whole = _pairs(documented)
    if word and "|" not in name:
        [whole] = [one for one in _arguments(whole["arguments"]) if one.get("token") == word]
    return tuple(map(int, whole["since"].split(".")))


def _arguments(found: Any, since: str = FIRST) -> Iterator[dict[str, Any]]:
    """All arguments of a command, also those within others, which came with these."""
    for one in found:
        argument = {"since": since, **_pairs(one)}
        yield argument
        yield from _arguments(argument.get("arguments", []), argument["since"])


def _pairs(answer: Any) -> dict[str, Any]:
    return answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
