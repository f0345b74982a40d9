"""Which law a test is about, and which laws were asked for."""

from __future__ import annotations

import difflib
import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from anybroker_conformance.laws import BACKEND_LAWS, BROKER_LAWS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anybroker_conformance.laws import Law

Kind = Literal["broker", "backend"]

LAWS: dict[Kind, tuple[Law, ...]] = {"broker": BROKER_LAWS, "backend": BACKEND_LAWS}
_SUITES: dict[Kind, tuple[str, str]] = {
    "broker": ("anybroker_conformance.suite", "BrokerConformance"),
    "backend": ("anybroker_conformance.backend.suite", "BackendConformance"),
}
_TEST = re.compile(r"test_law(\d+)_(\w+?)__")


def base_of(kind: Kind) -> type:
    """The class that suites of this kind subclass."""
    module, name = _SUITES[kind]
    found: type = getattr(import_module(module), name)
    return found


def kind_of(suite: type | None) -> Kind | None:
    """What a test class proves the laws of; None if it is no suite, or one of ours that has no factory."""
    if suite is None:
        return None
    for kind, (module, name) in _SUITES.items():
        base = getattr(sys.modules.get(module), name, None)  # where nobody imported it, nothing is a subclass of it
        if base is not None and issubclass(suite, base) and suite is not base:
            return kind
    return None


def law_of(kind: Kind, test: str) -> Law | None:
    """The law that a test of this name is about."""
    found = _TEST.match(test)
    return next((law for law in LAWS[kind] if found and law.number == int(found[1])), None)


def law_tests(suite: type, kind: Kind) -> dict[str, Law]:
    """The names of all law tests of a suite, whether they were selected or not."""
    return {name: law for name in dir(suite) if (law := law_of(kind, name)) and callable(getattr(suite, name))}


class Selection:
    """The laws that were asked for, by number or name; all of them if none was."""

    def __init__(self, asked: Iterable[str] = ()) -> None:
        """Raises ``ValueError`` for what is neither the number nor the name of a law."""
        words = (word.strip().lower() for text in asked for word in text.split(","))
        self._asked = frozenset(_known(word) for word in words if word)

    def __bool__(self) -> bool:
        return bool(self._asked)

    def __contains__(self, law: Law) -> bool:
        return not self._asked or str(law.number) in self._asked or law.name in self._asked


def _known(word: str) -> str:
    every = [law for laws in LAWS.values() for law in laws]
    names = list(dict.fromkeys(law.name for law in every))
    if word.isdecimal() and int(word) in {law.number for law in every}:
        return str(int(word))
    if word in names:
        return word
    near = difflib.get_close_matches(word, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"give a number from 1 to {len(BROKER_LAWS)}, or a name:"
    raise ValueError(f"there is no law {word!r}; {hint}" + ("" if near else f" {', '.join(names)}"))
