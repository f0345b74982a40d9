"""The other process of a test of a result backend: it does as it is told, one JSON line each way.

See :mod:`anybroker_conformance.backend.peer` for the side that tells it.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.backend import Result
from anybroker.loading import load_backend
from anybroker_conformance.faults.remote import Answer, Origin, Ready, describe, make_broker

if TYPE_CHECKING:
    from anybroker.backend import ResultBackend


_POSITIONAL = ("results", "ids", "group_id", "member_id", "key", "token")
"""An adapter may give these parameters names of its own."""


def obey(backend: ResultBackend, line: bytes) -> Answer:
    """Do what one line says: a verb of a backend, or ``run``."""
    try:
        arguments = msgspec.json.decode(line)
        verb = arguments.pop("type")
        if verb == "run":
            module, _, name = arguments["function"].partition(":")
            return Answer(value=getattr(importlib.import_module(module), name)(backend, **arguments["arguments"]))
        if verb == "store":
            arguments["results"] = msgspec.convert(arguments["results"], list[Result])
        positional = [arguments.pop(name) for name in _POSITIONAL if name in arguments]
        return Answer(value=getattr(backend, verb)(*positional, **arguments))
    except BaseException as error:
        return Answer(failure=describe(error))


def main() -> None:
    """Make the backend as the first line says, then obey the others until there are no more."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what an adapter prints is no answer
    requests = sys.stdin.buffer

    def say(answer: Answer) -> None:
        os.write(answers, msgspec.json.encode(answer) + b"\n")

    try:
        origin = msgspec.json.decode(requests.readline(), type=Origin)
        backend: Any = load_backend(origin.url or "") if origin.module is None else make_broker(origin)
    except BaseException as error:
        say(Answer(failure=describe(error)))
        raise
    say(Answer(value=Ready(time.time(), datetime.now(UTC).timestamp(), time.monotonic())))
    for line in requests:
        say(obey(backend, line))
    backend.close()


if __name__ == "__main__":
    main()
