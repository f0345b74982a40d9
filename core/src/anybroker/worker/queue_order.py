"""In which order a worker asks its queues: strictly, or by weight."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

from anybroker.errors import ConfigurationError
from anybroker.validation import check_queue_name

if TYPE_CHECKING:
    from collections.abc import Iterable


class QueueOrder:
    """``mail,default``: mail first, always. ``mail:3,default:1``: mail first three times out of four."""

    def __init__(self, queues: str | Iterable[str]) -> None:
        """Raises ``ConfigurationError`` for a weight that is not a positive number and for a queue named twice."""
        if isinstance(queues, Mapping):  # whose weights would go unnoticed
            written = ",".join(f"{name}:{weight}" for name, weight in queues.items())
            message = f"queues with weights are written as a text: {written!r}"
            raise ConfigurationError(message)
        parts = [part.strip() for part in queues.split(",")] if isinstance(queues, str) else list(queues)
        weights: dict[str, int | None] = {}
        for part in filter(None, parts):
            name, colon, text = part.rpartition(":")
            weight = int(text) if colon and text.isdecimal() else None
            if colon and weight is None and isinstance(queues, str):
                message = f"{part!r}: a weight is a whole number, as in mail:3,default:1"
                raise ConfigurationError(message)
            if weight == 0:
                message = f"queue {name!r} has weight 0 and would never be asked; leave it out"
                raise ConfigurationError(message)
            name = check_queue_name(part if weight is None else name)
            if name in weights:
                message = f"queue {name!r} is named twice"
                raise ConfigurationError(message)
            weights[name] = weight
        if None in weights.values() and any(weights.values()):
            message = f"{queues!r}: give every queue a weight, or none of them"
            raise ConfigurationError(message)
        if not weights:
            message = "a worker needs at least one queue"
            raise ConfigurationError(message)
        self.names: tuple[str, ...] = tuple(weights)
        self.weighted: bool = len(weights) > 1 and any(weights.values())
        self._weights = {name: weight or 1 for name, weight in weights.items()}
        self._strict = list(weights)

    def next(self) -> list[str]:
        """The order for the next ``acquire``."""
        if not self.weighted:
            return self._strict
        # each name's key is drawn so that it comes first in proportion to its weight (Efraimidis and Spirakis, 2006)
        return sorted(self._weights, key=lambda name: random.random() ** (1 / self._weights[name]), reverse=True)  # noqa: S311
