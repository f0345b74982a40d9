"""An SQS that answers as it is told: throttling, faults, expired credentials, partial failures."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = tuple[int, dict[str, Any]]


def refusal(code: str, status: int = 400, message: str = "no") -> Answer:
    """What SQS says when it refuses a call."""
    return status, {"__type": f"com.amazonaws.sqs#{code}", "message": message}


class ScriptedSqs:
    """Stores nothing. ``answer(operation, call)`` may return an answer; else all is well and every queue is empty."""

    def __init__(self, answer: Callable[[str, dict[str, Any]], Answer | None] = lambda _operation, _call: None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._answer = answer
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                call = json.loads(self.rfile.read(length))
                status, body = scripted.respond(self.headers["X-Amz-Target"].partition(".")[2], call)
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.0")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True)

    @property
    def url(self) -> str:
        """That of the broker."""
        return f"sqs://AKIAEXAMPLEKEY00000:s3cr3t@eu-west-1/?endpoint={self.endpoint}"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def operations(self) -> Counter[str]:
        """How often each was called."""
        return Counter(operation for operation, _ in self.calls)

    def respond(self, operation: str, call: dict[str, Any]) -> Answer:
        self.calls.append((operation, call))
        if answer := self._answer(operation, call):
            return answer
        if operation == "GetQueueUrl":
            return 200, {"QueueUrl": f"{self.endpoint}/000000000000/{call['QueueName']}"}
        if "Entries" in call:
            return 200, {"Successful": [{"Id": entry["Id"]} for entry in call["Entries"]], "Failed": []}
        return 200, {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
