"""What is made of pymongo's exceptions."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.errors import BulkWriteError

from anybroker.errors import AnybrokerError, BrokerUnavailable, ConfigurationError, MessageTooLarge
from anybroker.loading import parse_url
from anybroker_broker_mongodb.translation import translation

ADDRESS = parse_url("mongodb://user:secret@localhost")


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ({"code": 91, "errmsg": "shutting down"}, BrokerUnavailable),
        ({"code": 238, "errmsg": "pipeline upsert is not implemented"}, ConfigurationError),
        ({"code": 13, "errmsg": "not authorized"}, ConfigurationError),
        ({"code": 10334, "errmsg": "BSONObj size is invalid"}, MessageTooLarge),
    ],
)
@pytest.mark.parametrize("where", ["writeErrors", "writeConcernErrors"])
def test_a_bulk_write_says_what_its_first_failure_was(
    failure: dict[str, Any], kind: type[AnybrokerError], where: str
) -> None:
    later = {"code": 1, "errmsg": "something else"}
    found = translation(BulkWriteError({where: [{"index": 0, **failure}, {"index": 1, **later}]}), ADDRESS)
    assert type(found) is kind
    assert failure["errmsg"] in str(found)
    assert "secret" not in str(found)


def test_a_bulk_write_that_does_not_say_what_failed() -> None:
    assert type(translation(BulkWriteError({}), ADDRESS)) is BrokerUnavailable
