"""Amazon SQS as a broker: ``sqs://eu-west-1/?prefix=myapp-``."""

from anybroker_broker_sqs.broker import SqsBroker

__all__ = ["SqsBroker"]
