"""``anybroker send``, in this process."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.core.cli.conftest import Invoke, Project

APP = ("--app", "tasks:app")
URL = ("--url", "sqlite:///tasks.db")


def peek(invoke: Invoke, queue: str, *which: str) -> Any:
    """The messages of a queue."""
    return json.loads(invoke("peek", queue, *which, "--json").stdout)


def test_send_prints_the_id_alone(invoke: Invoke) -> None:
    printed = invoke("send", "tasks.add", "2", "3", *APP).stdout
    [message] = peek(invoke, "default", *APP)
    assert printed == f"{message['id']}\n"
    assert (message["task"], message["args"]) == ("tasks.add", [2, 3])


def test_it_is_said_that_a_task_ends_with_the_command(invoke: Invoke) -> None:
    sent = invoke("send", "elsewhere", "1", "--url", "memory://")
    assert "warning: what is sent to memory:// ends with this command" in sent.stderr
    assert invoke("send", "elsewhere", "1", *URL).stderr == ""


def test_send_takes_json_and_else_strings(invoke: Invoke) -> None:
    arguments = ["1", "1.5", "null", '"7"', "{", "two words", '{"a": [1]}']
    invoke("send", "elsewhere", *arguments, "--kwargs", '{"k": true}', *URL)
    [message] = peek(invoke, "default", *URL)
    assert message["args"] == [1, 1.5, None, "7", "{", "two words", {"a": [1]}]
    assert message["kwargs"] == {"k": True}


def test_send_passes_every_option_on(invoke: Invoke) -> None:
    sent = invoke(
        *("send", "t", "--queue", "mail", "--delay", "2d", "--priority", "7", "--id", "mine"),
        *("--header", "a=b", "--header", "c=d=e", "--json", *URL),
    )
    assert json.loads(sent.stdout) == {"id": "mine", "queue": "mail"}
    [message] = peek(invoke, "mail", *URL)
    assert (message["id"], message["priority"], message["headers"]) == ("mine", 7, {"a": "b", "c": "d=e"})
    delay = datetime.fromisoformat(message["eta"]) - datetime.fromisoformat(message["sent_at"])
    assert delay == timedelta(days=2)


def test_eta_without_zone_is_local_time(invoke: Invoke) -> None:
    invoke("send", "t", "--eta", "2099-01-31T08:00", *URL)
    [message] = peek(invoke, "default", *URL)
    assert datetime.fromisoformat(message["eta"]) == datetime(2099, 1, 31, 8).astimezone()


def test_negative_numbers_follow_two_dashes(invoke: Invoke) -> None:
    invoke("send", "tasks.add", *APP, "--", "-2", "3")
    assert peek(invoke, "default", *APP)[0]["args"] == [-2, 3]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("tasks.ad", "2", "3", *APP), "did you mean tasks.add?"),
        (("tasks.add", "2", *APP), "missing a required argument: 'b'"),
        (("tasks.add", "2", "x", *APP), "tasks.add()"),
        (("t", "--delay", "1s", "--eta", "2099-01-01T00:00Z", *URL), "delay or eta"),
        (("t", "--url", "reddis://u:hidden@h"), "did you mean 'redis://'?"),
        (("t", *APP, *URL), "not both"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(invoke: Invoke, arguments: tuple[str, ...], says: str) -> None:
    [line] = invoke("send", *arguments, exit_code=2).stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert "hidden" not in line


@pytest.mark.parametrize("option", ["--kwargs=[1]", "--header=x", "--delay=soon", "--eta=tomorrow"])
def test_unfit_options_are_exit_code_2(invoke: Invoke, option: str) -> None:
    assert option.partition("=")[0] in invoke("send", "t", option, *URL, exit_code=2).stderr


@pytest.mark.usefixtures("broken_services")
def test_broker_that_is_down_is_exit_code_3(project: Project) -> None:
    done = project.run("send", "t", "--url", "down://")
    assert (done.returncode, done.stderr) == (3, "error: down://: connection refused\n")
