"""The wrong brokers and backends by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import msgspec

Kind = Literal["broker", "backend"]
Wrong = TypeVar("Wrong", bound=type)


class Mutant(msgspec.Struct, frozen=True):
    """An adapter with one thing wrong."""

    name: str
    kind: Kind
    law: str
    """The name of the law that it breaks, and by which it must be killed."""
    text: str
    """What is wrong with it."""
    make: Callable[..., Any]
    """``make(name=..., clock=...)`` -> the broker or backend; those of one name share what they store."""


MUTANTS: dict[str, Mutant] = {}


def wrong_broker(law: str, text: str) -> Callable[[Wrong], Wrong]:
    """Register a broker that breaks a law."""
    return _register("broker", law, text)


def wrong_backend(law: str, text: str) -> Callable[[Wrong], Wrong]:
    """Register a backend that breaks a law."""
    return _register("backend", law, text)


def _register(kind: Kind, law: str, text: str) -> Callable[[Wrong], Wrong]:
    def register(wrong: Wrong) -> Wrong:
        if wrong.__name__ in MUTANTS:
            raise ValueError(f"there is another {wrong.__name__}")
        MUTANTS[wrong.__name__] = Mutant(wrong.__name__, kind, law, text, wrong)
        return wrong

    return register
