"""One client of pymongo for all objects of a process that use the same URL, with one pool and one set of monitors."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient
from pymongo.driver_info import DriverInfo

if TYPE_CHECKING:
    from anybroker_broker_mongodb.urls import Target

Client = MongoClient[dict[str, Any]]


class _Clients:
    """The clients of this process, each with the number of its users."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.lock = threading.Lock()
        self.users: dict[str, int] = {}
        self.clients: dict[str, Client] = {}


_here = _Clients()
_inherited: list[_Clients] = []
"""Those of the parent of a fork. They are of no use here, and to close them would be to end the parent's sessions."""


def borrow(target: Target[Any]) -> int:
    """Count one more user of a URL; returns the process in which it is one."""
    clients = _here
    with clients.lock:
        clients.users[target.url] = clients.users.get(target.url, 0) + 1
    return clients.process


def client(target: Target[Any]) -> Client:
    """The client for a URL, made when it is first asked for. Raises what pymongo raises."""
    clients = _here
    with clients.lock:
        found = clients.clients.get(target.url)
        if found is None:
            found = clients.clients[target.url] = MongoClient(
                target.url, connect=False, driver=DriverInfo("anybroker"), **target.client_options
            )
        return found


def give_back(target: Target[Any], process: int) -> None:
    """One user less; the last one closes the client. Nothing happens in another process than that of ``borrow``."""
    clients = _here
    if clients.process != process:
        return
    with clients.lock:
        clients.users[target.url] -= 1
        if clients.users[target.url] > 0:
            return
        del clients.users[target.url]
        unused = clients.clients.pop(target.url, None)
    if unused is not None:
        unused.close()


def _after_fork_in_child() -> None:
    global _here  # noqa: PLW0603  one for the process, as its name says
    _inherited.append(_here)
    _here = _Clients()


os.register_at_fork(after_in_child=_after_fork_in_child)
