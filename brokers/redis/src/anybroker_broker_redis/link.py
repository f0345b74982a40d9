"""Calls to the server: connections, scripts, pipelines, redirections, and what came of them."""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hiredis import pack_command
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from anybroker.errors import BrokerUnavailable
from anybroker_broker_redis.errors import FAILURES, not_unicode, translated
from anybroker_broker_redis.options import check_files, encrypted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.connection import Connection

    from anybroker.loading import Address
    from anybroker_broker_redis.options import Options
    from anybroker_broker_redis.scripts import Script
    from anybroker_broker_redis.servers import Servers

    Command = tuple[Any, ...]

MAX_REDIRECTIONS = 16
"""Of one command; more nodes than that do not take turns in pointing at each other."""
SHORTEST_WAIT = 0.002
"""Seconds: a wait of 0.001 never ends before Redis 7.0.8, which rounds it down to none, and that is for ever."""
PIECE = 1 << 20
"""Bytes that the server has ``timeout`` to take: a million messages, or a large one on a slow line, take longer."""
TRY_AGAIN = 0.02
"""Seconds after which a command is sent again whose keys are being moved to another node."""


class Link:
    """Sends commands, each on a connection that no other thread uses meanwhile.

    Nothing is sent again that may have been carried out: what is lost on the way raises ``BrokerUnavailable``.
    Connections that are not in use wait for the next call; there are as many as calls were made at the same time.
    ``address`` names the server in errors; ``timeout``: seconds for one answer.
    """

    def __init__(self, servers: Servers, options: Options, address: Address) -> None:
        self._servers = servers
        self._options = options
        self.timeout = options.timeout.total_seconds()
        self._replicas = options.replicas
        self.address = address
        self._idle: deque[Connection] = deque()
        self._process = os.getpid()
        self.closed = False

    def call(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Any], *, writes: bool = False) -> Any:
        """Run a script. ``writes``: replicas must have what it changes, if that was asked for."""
        return self._one(command(script, keys, arguments), script, writes=writes)

    def send(self, *command: Any, writes: bool = False) -> Any:
        """Run one command that is no script. ``writes``: as for :meth:`call`."""
        return self._one(command, None, writes=writes)

    def _one(self, command: Command, script: Script | None, *, writes: bool) -> Any:
        wait = self._wait() if writes else []
        answers: list[Any] = []
        try:
            self._exchange([command, *wait], answers)
            answer, confirmed = answers[0], answers[-1]
            if isinstance(answer, ResponseError):
                answer, confirmed = self._again(command, script, answer, wait)
        except FAILURES as error:
            self._failed(error)
            raise translated(error, self.address) from error
        if wait and not self._replicated(confirmed):
            raise self._too_few(confirmed)
        return answer

    def run(
        self, commands: Sequence[Command], scripts: Sequence[Script], replies: list[Any], *, writes: bool = False
    ) -> None:
        """Run scripts in one go, in order, and append what they answer to ``replies``.

        Raises what the first failure means, with the answers of those before it in ``replies``.
        """
        batch = _with_sources(commands, scripts) if len(commands) > 1 else commands
        wait = self._wait() if writes else []
        answers: list[Any] = []
        failure: BaseException | None = None
        try:
            try:
                self._exchange([*batch, *wait], answers)
            except FAILURES as error:
                failure = error
            confirmed = answers[len(batch)] if len(answers) > len(batch) else None
            for one, script, answer in zip(commands, scripts, answers, strict=False):
                if isinstance(answer, ResponseError):
                    answer, confirmed = self._again(one, script, answer, wait)  # noqa: PLW2901  now it is that
                replies.append(answer)
            if failure is not None:
                raise failure
        except FAILURES as error:
            self._failed(error)
            raise translated(error, self.address) from error
        if wait and not self._replicated(confirmed):
            replies.clear()
            raise self._too_few(confirmed)

    def pop(self, keys: Sequence[bytes], timeout: float) -> bool:
        """Wait at most so many seconds for an element in one of the lists, and take it. Whether there was one."""
        command = ("BLPOP", *keys, f"{max(timeout, SHORTEST_WAIT):.3f}")
        answers: list[Any] = []
        try:
            self._exchange([command], answers, patience=timeout)
            answer = answers[0]
            if isinstance(answer, AskError | TryAgainError):
                self._servers.changed()
                time.sleep(min(timeout, TRY_AGAIN))
                return True
            if isinstance(answer, BaseException):
                raise answer
        except FAILURES as error:
            self._failed(error)
            raise translated(error, self.address) from error
        return answer is not None

    def close(self) -> None:
        """End the connections that are not in use; the others end after their calls."""
        self.closed = True
        self._end_idle()
        self._servers.close()

    def connect(self) -> Connection:
        """A new connection, for one who keeps it. Raises ``BrokerUnavailable``."""
        try:
            connection = self._servers.connection()
            connection.connect()
        except FAILURES as error:
            self._failed(error)
            raise translated(error, self.address) from error
        return connection

    def _exchange(
        self,
        commands: Sequence[Command],
        answers: list[Any],
        there: Connection | None = None,
        *,
        patience: float | None = None,
    ) -> None:
        """Send commands, and append their answers, among them the errors of the server.

        ``there``: a connection for this once. ``patience``: seconds for an answer that is waited for.
        """
        try:
            packed = b"".join(map(pack_command, commands))  # redis-py's own looks at each argument before
        except UnicodeEncodeError as error:
            raise not_unicode(error) from error
        connection = there or self._connection()
        try:
            connection.send_packed_command([packed] if len(packed) <= PIECE else _pieces(packed), check_health=False)
            for _ in commands:
                if patience is not None:
                    connection.can_read(patience)  # the connection's own time limit begins after it
                try:
                    answers.append(connection.read_response())
                except ResponseError as error:
                    answers.append(error)
        except BaseException:
            connection.disconnect()
            raise
        if there is not None:
            there.disconnect()
        else:
            self._give_back(connection)

    def _again(
        self, command: Command, script: Script | None, error: ResponseError, wait: Sequence[Command]
    ) -> tuple[Any, Any]:
        """Send a command that was certainly not carried out once more, where it belongs.

        Returns its answer, and that of ``wait``. Raises ``error``, or a later one, where that does not help.
        """
        deadline = time.monotonic() + self.timeout
        redirections = 0
        while True:
            there = None
            if isinstance(error, NoScriptError) and script is not None:
                command = _with_source(command, script)
            elif isinstance(error, AskError) and redirections < MAX_REDIRECTIONS:  # a MovedError, too
                redirections += 1
                if isinstance(error, MovedError):
                    self._servers.changed()
                    self._end_idle()
                else:
                    there = self._servers.at(error.host, error.port)
            elif isinstance(error, TryAgainError) and time.monotonic() < deadline:
                redirections = 0  # the node that it moves to may say so, too, where not all of its keys exist
                time.sleep(TRY_AGAIN)
            else:
                raise error
            answers: list[Any] = []
            self._exchange([*([("ASKING",)] if there else []), command, *wait], answers, there)
            if there:
                del answers[0]
            if not isinstance(answers[0], ResponseError):
                return answers[0], answers[-1]
            error = answers[0]

    def _wait(self) -> list[Command]:
        """What makes the replicas have what was written before on the same connection."""
        return [("WAIT", self._replicas, int(self.timeout * 500))] if self._replicas else []

    def _replicated(self, confirmed: Any) -> bool:
        """Whether that many replicas are enough; an error of the server is no number."""
        return isinstance(confirmed, int) and confirmed >= self._replicas

    def _too_few(self, confirmed: Any) -> BrokerUnavailable:
        return BrokerUnavailable(f"{self.address}: {confirmed} of {self._replicas} replicas have the change")

    def _failed(self, error: BaseException) -> None:
        """What does not answer may have been replaced; what refuses to be written to, has been.

        Connections that wait lead there, too: each of them would take as long to fail. Raises ``ConfigurationError``
        where it is a file that is missing.
        """
        if not isinstance(error, ResponseError) or isinstance(error, ReadOnlyError | ClusterDownError):
            self._servers.changed()
            self._end_idle()
            if encrypted(self.address, self._options):
                check_files(self.address, self._options)

    def _connection(self) -> Connection:
        if self._process != os.getpid():  # the child of a fork has inherited the connections of its parent
            self._idle, self._process = deque(), os.getpid()
            self._servers.changed()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._servers.connection()
                connection.connect()
                return connection
            try:
                if not connection.can_read(0):
                    return connection
            except FAILURES:
                pass
            connection.disconnect()  # the server has closed it meanwhile

    def _give_back(self, connection: Connection) -> None:
        self._idle.append(connection)
        if self.closed:
            self._end_idle()

    def _end_idle(self) -> None:
        while self._idle and self._process == os.getpid():
            with suppress(IndexError):
                self._idle.pop().disconnect()


def command(script: Script, keys: Sequence[bytes], arguments: Sequence[Any]) -> Command:
    """The call of a script, for :meth:`Link.run`."""
    return ("EVALSHA", script.sha, len(keys), *keys, *arguments)


def _pieces(packed: bytes) -> list[memoryview]:
    view = memoryview(packed)
    return [view[at : at + PIECE] for at in range(0, len(view), PIECE)]


def _with_source(call: Command, script: Script) -> Command:
    """The same call for a server that may not know the script."""
    return ("EVAL", script.source, *call[2:])


def _with_sources(calls: Sequence[Command], scripts: Sequence[Script]) -> list[Command]:
    """Calls of which none fails for a script that the server has forgotten, and so is overtaken by those after it."""
    seen: set[str] = set()
    batch = []
    for call, script in zip(calls, scripts, strict=True):
        batch.append(call if script.sha in seen else _with_source(call, script))
        seen.add(script.sha)
    return batch
