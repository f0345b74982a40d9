"""A MongoDB server that answers as it is told: replica sets, refusals, change streams that end."""

from __future__ import annotations

import struct
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, Self

import bson

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]

ALONE: Json = {
    "isWritablePrimary": True,
    "helloOk": True,
    "minWireVersion": 0,
    "maxWireVersion": 17,
    "maxBsonObjectSize": 16 * 1024**2,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
}
"""What a server alone says of itself."""
MEMBER: Json = {**ALONE, "setName": "rs0", "hosts": ["127.0.0.1:27017"], "setVersion": 1}
"""What the primary of a replica set says of itself."""

NOT_UNICODE = "what is here is no valid Unicode"
"""This text, when it is sent."""

_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_HELLO = {"hello", "ismaster"}


def refusal(code: int, text: str) -> Json:
    """What a server says when it refuses a command."""
    return {"ok": 0, "code": code, "errmsg": text}


def cursor(*documents: Json, id_: int = 0, batch: str = "firstBatch") -> Json:
    """What a server says to a query; an id of 0 says that there is no more."""
    return {"cursor": {"id": bson.Int64(id_), "ns": "db.collection", batch: list(documents)}}


class ScriptedMongo:
    """Stores nothing. ``answer(name, command)`` may return an answer; else all is well and every collection empty."""

    def __init__(
        self, answer: Callable[[str, Json], Json | None] = lambda _name, _command: None, *, hello: Json = ALONE
    ) -> None:
        self.commands: list[Json] = []
        """Those that were sent, but for greetings."""
        self._answer = answer
        self._hello = hello
        scripted = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                while header := self.rfile.read(16):
                    size, request, _, kind = struct.unpack("<iiii", header)
                    body = self.rfile.read(size - 16)
                    self.wfile.write(scripted.respond(request, kind, body))

        class Server(ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=[0.01], daemon=True)

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self._server.server_address[1]}/tasks?directConnection=true"

    def respond(self, request: int, kind: int, body: bytes) -> bytes:
        """The answer to one message of the wire protocol."""
        if kind == _OP_QUERY:  # the first greeting of a connection
            name = body.index(b"\0", 4)
            answer = self.reply(bson.decode(body[name + 9 :]))
            reply, data = _OP_REPLY, struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(answer)
        else:
            answer = self.reply(_message(body))
            data = bson.encode(answer).replace(NOT_UNICODE.encode(), b"\xff" * len(NOT_UNICODE))
            reply, data = _OP_MSG, struct.pack("<iB", 0, 0) + data
        return struct.pack("<iiii", 16 + len(data), 0, request, reply) + data

    def reply(self, command: Json) -> Json:
        """The answer to a command."""
        name = next(iter(command))
        if name.lower() in _HELLO:
            return {**self._hello, "ok": 1}
        self.commands.append(command)
        answer = self._answer(name, command)
        if answer is None:
            answer = cursor() if name in {"find", "aggregate"} else {"n": 0, "nModified": 0}
        return {"ok": 1, **answer}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _message(body: bytes) -> Json:
    """The command of an OP_MSG, whose documents may stand beside it."""
    command: Json = {}
    at = 4
    while at < len(body):
        size = int.from_bytes(body[at + 1 : at + 5], "little")
        part = body[at + 1 : at + 1 + size]
        if body[at]:
            name = part.index(b"\0", 4)
            command[part[4:name].decode()] = bson.decode_all(part[name + 1 :])
        else:
            command = {**bson.decode(part), **command}
        at += 1 + size
    return command
