"""What RabbitMQ tells of its queues: how much is ready, by AMQP; the rest by its management API."""

from __future__ import annotations

import base64
import json
import ssl
from http import HTTPStatus
from http.client import HTTPException, IncompleteRead
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from pika import spec

from anybroker.broker import Estimate
from anybroker.errors import AnybrokerError, BrokerUnavailable, ConfigurationError, Unsupported
from anybroker_broker_amqp.names import original
from anybroker_broker_amqp.translation import NOT_FOUND, refused_with
from anybroker_broker_amqp.urls import check_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pika.amqp_object import Method

    from anybroker.loading import Address
    from anybroker_broker_amqp.links import Links
    from anybroker_broker_amqp.urls import Options

_COUNTS = ("messages_ready", "messages_unacknowledged")
_NOTHING = {HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST}
"""RabbitMQ has the latter for a %2F, the default virtual host, in a path that it does not know."""
_ELSEWHERE = range(300, 400)
_MEANT = "management is the URL of RabbitMQ's management API, such as http://localhost:15672"


class _Here(HTTPRedirectHandler):
    """Goes nowhere else: urllib would take the password along."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Make an error of it."""


class Management:
    """RabbitMQ's management API, asked as the user of the broker's URL."""

    def __init__(self, address: Address, options: Options) -> None:
        """Raises ``ConfigurationError``."""
        try:
            url = urlsplit(options.management or "")
            given = url.port  # it is read where it is asked for
        except ValueError as error:
            raise ConfigurationError(f"{address}: {_MEANT}: {error}") from error
        if url.scheme not in {"http", "https"} or not url.hostname or given == 0:
            raise ConfigurationError(f"{address}: {_MEANT}")
        check_host(url.hostname, address)
        if url.username or url.password:
            raise ConfigurationError(f"{address}: management takes no password, but that of the broker's URL")
        self.where = f"{url.scheme}://{url.netloc}{url.path.rstrip('/')}"
        self._virtual_host = address.path[1:] or "/"
        self._queues = f"{self.where}/api/queues/{quote(self._virtual_host, safe='')}"
        self._timeout = options.timeout.total_seconds()
        tls = [HTTPSHandler(context=ssl.create_default_context(cafile=options.ca))] if url.scheme == "https" else []
        self._opener = build_opener(_Here, *tls)
        credentials = f"{address.user or 'guest'}:{address.password or 'guest'}"
        self._authorization = f"Basic {base64.b64encode(credentials.encode()).decode()}"

    def queues(self) -> list[str]:
        """The names of the queues of the virtual host."""
        return [found["name"] for found in self._existing("?columns=name")]

    def counts(self, name: str) -> tuple[int, int]:
        """How many messages of a queue are ready, and how many are not acknowledged."""
        found = self._get(f"/{quote(name, safe='')}?columns={','.join(_COUNTS)}")
        if found is None:
            self._existing("?columns=name&page=1&page_size=1")  # else nothing is there, not this queue alone
        if not found:  # or RabbitMQ has not counted yet: [] instead of an object
            return 0, 0
        ready, unacknowledged = (found.get(count, 0) for count in _COUNTS)
        return ready, unacknowledged

    def _existing(self, path: str) -> Any:
        found = self._get(path)
        if found is None:
            raise ConfigurationError(
                f"nothing is at {self._queues}: {_MEANT}, and the virtual host {self._virtual_host!r} must exist"
            )
        return found

    def _get(self, path: str) -> Any:
        """What is there; None if nothing is."""
        request = Request(self._queues + path, headers={"Authorization": self._authorization})  # noqa: S310  http(s)
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                return json.load(answer)
        except HTTPError as error:
            error.close()
            if error.code in _NOTHING:
                return None
            text = f"{self.where} answers {error.code} {error.reason}"
            if error.code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                raise ConfigurationError(f"{text}: the user needs the tag monitoring or management") from error
            if error.code in _ELSEWHERE:
                raise ConfigurationError(f"{text}, to another address: {_MEANT}") from error
            raise BrokerUnavailable(text) from error
        except (OSError, IncompleteRead) as error:
            raise BrokerUnavailable(f"{self.where} does not answer: {error}; {_MEANT}") from error
        except (HTTPException, ValueError) as error:
            raise ConfigurationError(f"{self.where} is something else: {_MEANT}: {error}") from error


def known_queues(management: Management | None, prefix: str) -> list[str]:
    """The queues for tasks with this prefix."""
    if management is None:
        raise Unsupported("RabbitMQ lists its queues by its management API only: add management=http://host:15672")
    names = (original(prefix, name) for name in management.queues())
    return sorted({name for name in names if name is not None})


def estimate(links: Links, management: Management | None, names: Sequence[str]) -> Estimate:
    """Counts of the queues of RabbitMQ that make up one queue. What waits for its eta is in none of them."""
    if management is None:
        declared = [_ask(links, spec.Queue.Declare(0, name, passive=True, arguments={})) for name in names]
        return Estimate(ready=sum(one.message_count for one in declared if one is not None))
    counts = [management.counts(name) for name in names]
    return Estimate(ready=sum(ready for ready, _ in counts), leased=sum(leased for _, leased in counts))


def clear(links: Links, names: Iterable[str]) -> None:
    """Remove what is ready."""
    for name in names:
        _ask(links, spec.Queue.Purge(0, name))


def _ask(links: Links, method: Method) -> Any:
    """The reply to a method; None if the queue is not there."""
    try:
        return links.ask([method])[0]
    except AnybrokerError as error:
        if refused_with(error) == NOT_FOUND:
            return None
        raise
