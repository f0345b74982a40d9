"""RabbitMQ as a result backend of anybroker."""

from __future__ import annotations

from anybroker_backend_amqp.backend import AmqpBackend

__all__ = ["AmqpBackend"]
