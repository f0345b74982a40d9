"""RabbitMQ as a broker of anybroker, on pika."""

from __future__ import annotations

from anybroker_broker_amqp.broker import AmqpBroker

__all__ = ["AmqpBroker"]
