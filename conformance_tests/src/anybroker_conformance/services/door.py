"""Starts services, ends them, and looks after them: the one door, for the command and for the suite alike."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from anybroker_conformance.services.catalogue import SERVICES
from anybroker_conformance.services.docker import Docker
from anybroker_conformance.services.engine import Engine, NodeState, ServiceError, wait_for
from anybroker_conformance.services.local import Local
from anybroker_conformance.services.service import NotReadyError
from anybroker_conformance.services.state import Entry, State

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable, Sequence

    from anybroker_conformance.services.requirements import Requirement

_READY_SECONDS = 90.0


class Door:
    """The services whose state is in one folder."""

    def __init__(self, state: State | None = None) -> None:
        self.state = state or State()
        self._engines: dict[str, Engine] = {"docker": Docker(), "local": Local()}

    def up(self, names: Sequence[str], how: str) -> tuple[list[Entry], list[str]]:
        """Start what does not run yet; returns what runs now, and why the rest does not."""
        with self.state.lock():
            started = time.monotonic()
            entries = [self._kept(name) or self._begin(name, how) for name in names]
            new = [entry for entry in entries if not entry.version]
            engine = self._engines[how]
            if new:
                engine.prepare([SERVICES[entry.name] for entry in new])
            with ThreadPoolExecutor(max_workers=len(names)) as pool:
                results = list(pool.map(lambda entry: self._finish(entry, started), new))
            failures = [result for result in results if isinstance(result, str)]
            return [entry for name, entry in self.state.entries().items() if name in names], failures

    def _kept(self, name: str) -> Entry | None:
        """The entry of a service that works already; what is left of one that does not is ended."""
        entry = self.state.entries().get(name)
        if not entry:
            return None
        try:
            for node, state in self.states(entry).items():
                if state == "paused":
                    self.resume(entry, node)
            SERVICES[name].probe(entry.ports)
        except (NotReadyError, OSError, ServiceError):
            pass
        else:
            if entry.version:
                return entry
        self._end(name)
        return None

    def _begin(self, name: str, how: str) -> Entry:
        engine = self._engines[how]
        entry = Entry(name=name, how=engine.how, ports=engine.ports(SERVICES[name]))
        self.state.write(entry)
        return entry

    def _finish(self, entry: Entry, started: float) -> Entry | str:
        """Start what was written down and wait until it is ready; the reason if that fails."""
        service, engine, folder = SERVICES[entry.name], self._engines[entry.how], self.state.folder / entry.name
        try:
            engine.start(service, folder, entry.ports)
            version = self._wait(entry)
        except (ServiceError, OSError) as error:
            reason = f"{entry.name}: {error}\n{engine.log(service, folder)}"
            self._end(entry.name)
            return reason
        version = engine.version(service, version)
        ready = msgspec.structs.replace(entry, version=version, seconds=round(time.monotonic() - started, 1))
        self.state.write(ready)
        return ready

    def _wait(self, entry: Entry) -> str:
        service = SERVICES[entry.name]
        return wait_for(lambda: service.probe(entry.ports), _READY_SECONDS, lambda: self.states(entry))

    def down(self, names: Iterable[str]) -> None:
        """End services and forget all of their data; those that do not run are none the worse for it."""
        with self.state.lock():
            self._end(*names)

    def _end(self, *names: str) -> None:
        entries = [entry for name, entry in self.state.entries().items() if name in names]
        for how in {entry.how for entry in entries}:
            folders = {self.state.folder / entry.name: SERVICES[entry.name] for entry in entries if entry.how == how}
            self._engines[how].end(folders)
        for name in names:
            self.state.remove(name)

    def states(self, entry: Entry) -> dict[str, NodeState]:
        """What each node of a service is doing."""
        return self._engines[entry.how].states(SERVICES[entry.name], self.state.folder / entry.name)

    def log(self, entry: Entry) -> str:
        """The last lines that the servers of a service wrote."""
        return self._engines[entry.how].log(SERVICES[entry.name], self.state.folder / entry.name)

    def restart(self, entry: Entry, node: str | None, number: signal.Signals) -> None:
        """End a node, or all, with a signal; start it again on its port and data; wait until the service is ready."""
        with self.state.lock():
            self.stop(entry, node, number)
            self._revive(entry, [node] if node else list(SERVICES[entry.name].containers))

    def stop(self, entry: Entry, node: str | None, number: signal.Signals) -> None:
        """End a node, or all, with a signal. Its data stay."""
        service, engine, folder = SERVICES[entry.name], self._engines[entry.how], self.state.folder / entry.name
        for each in [node] if node else service.containers:
            engine.stop(service, folder, each, number)

    def start(self, entry: Entry) -> None:
        """Start what has ended again, on its port and data, and wait until the service is ready."""
        self._revive(entry, [node for node, state in self.states(entry).items() if state == "ended"])

    def _revive(self, entry: Entry, nodes: Sequence[str]) -> None:
        service, engine, folder = SERVICES[entry.name], self._engines[entry.how], self.state.folder / entry.name
        for each in nodes:
            engine.revive(service, folder, entry.ports, each)
        try:
            self._wait(entry)
        except (OSError, ServiceError) as error:
            raise ServiceError(f"{entry.name}: {error}\n{engine.log(service, folder)}") from error

    def pause(self, entry: Entry, node: str | None) -> None:
        """Freeze a node, or all."""
        service, folder = SERVICES[entry.name], self.state.folder / entry.name
        for each in [node] if node else service.containers:
            self._engines[entry.how].pause(service, folder, each)

    def resume(self, entry: Entry, node: str | None) -> None:
        """Let a node, or all, go on."""
        service, folder = SERVICES[entry.name], self.state.folder / entry.name
        for each in [node] if node else service.containers:
            self._engines[entry.how].resume(service, folder, each)


def missing(names: Iterable[str]) -> dict[str, list[Requirement]]:
    """What services lack on this machine to run as local processes."""
    lacking = {name: [each for each in SERVICES[name].requirements if not each.found()] for name in names}
    return {name: requirements for name, requirements in lacking.items() if requirements}


def install(names: Iterable[str]) -> None:
    """Bring what services lack. Raises InstallError."""
    for name in names:
        for requirement in SERVICES[name].requirements:
            if not requirement.found():
                requirement.install()
