"""What docs/brokers/sqs.md says of other programs, carried out."""

from __future__ import annotations

import re
import secrets
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from anybroker import App
from anybroker.broker import Overview
from tests.live import service

if TYPE_CHECKING:
    from anybroker.broker import Delivery

pytestmark = [pytest.mark.services, pytest.mark.slow]

PAGE = Path(__file__).parents[3] / "docs/brokers/sqs.md"


def examples(prefix: str) -> list[str]:
    """The Python of the page, for the local server and queues of its own."""
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    endpoint = f"http://127.0.0.1:{service('sqs').running.ports['http']}"
    local = (
        f'boto3.client("sqs", region_name="eu-west-1", endpoint_url="{endpoint}", '
        'aws_access_key_id="local", aws_secret_access_key="local")'
    )
    return [example.replace('boto3.client("sqs")', local).replace("myapp-", prefix) for example in found]


def test_a_task_from_boto3_runs_and_boto3_reads_what_anybroker_sent(capsys: pytest.CaptureFixture[str]) -> None:
    prefix = f"f{secrets.token_hex(4)}-"
    sending, receiving = examples(prefix)
    names: dict[str, object] = {}
    with closing(App(service("sqs").url(prefix=prefix))) as app:
        assert isinstance(app.broker, Overview)
        while "default" not in app.broker.known_queues():
            app.broker.acquire(["default"], limit=1, wait=0.1, lease=5)  # creates the queue
        exec(sending, names)  # noqa: S102  our own documentation
        taken: list[Delivery] = []
        while not taken:
            taken = app.broker.acquire(["default"], limit=1, wait=5, lease=30)
        task = app.codec.decode(taken[0].message.body)
        assert (task.id, task.task) == ("from-elsewhere-1", "shop.add")
        assert app.broker.ack(taken) == [True]
        app.send_by_name("shop.add", [4, 5], id="from-here-1")
        exec(receiving, names)  # noqa: S102  our own documentation
    assert capsys.readouterr().out == "from-here-1 shop.add [4, 5]\n"
