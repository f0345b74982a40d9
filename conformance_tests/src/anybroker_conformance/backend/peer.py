"""Another process with the result backend under test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from anybroker.backend import Result
from anybroker_conformance.faults.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.capabilities import BackendCapabilities

msgspec.json.Decoder(list[Result])  # what a Result is, msgspec learns here: it must not do so in several threads


class BackendPeer(Peer):
    """Another process with a backend object of its own on the same results.

    The verbs of ``call`` and ``ask`` are those of a backend, and ``run(function="package.module:function",
    arguments={...})``, which calls ``function(backend, **arguments)`` there.
    """

    program: ClassVar[str] = "anybroker_conformance.backend.remote"


class RemoteBackend:
    """The backend of another process, as a backend: what is asked of it is done there."""

    def __init__(self, peer: BackendPeer, capabilities: BackendCapabilities) -> None:
        self.peer = peer
        self.capabilities = capabilities

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        """See ``ResultBackend.store``."""
        return self._call("store", results=list(results), ttl=ttl)  # type: ignore[no-any-return]

    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        """See ``ResultBackend.fetch``."""
        return msgspec.convert(self._call("fetch", ids=list(ids)), list[Result | None], strict=False)

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        """See ``ResultBackend.wait``."""
        answer = self.peer.call("wait", within=timeout + 60, ids=list(ids), timeout=timeout)
        return msgspec.convert(answer, list[Result])

    def forget(self, ids: Sequence[str]) -> None:
        """See ``ResultBackend.forget``."""
        self._call("forget", ids=list(ids))

    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        """See ``ResultBackend.join``."""
        return self._call("join", group_id=group_id, member_id=member_id, size=size)  # type: ignore[no-any-return]

    def seal(self, group_id: str) -> None:
        """See ``ResultBackend.seal``."""
        self._call("seal", group_id=group_id)

    def claim(self, key: str, *, ttl: float) -> str | None:
        """See ``ResultBackend.claim``."""
        return self._call("claim", key=key, ttl=ttl)  # type: ignore[no-any-return]

    def release(self, key: str, token: str) -> bool:
        """See ``ResultBackend.release``."""
        return self._call("release", key=key, token=token)  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the process."""
        self.peer.end()

    def _call(self, verb: str, **arguments: Any) -> Any:
        return self.peer.call(verb, **arguments)
