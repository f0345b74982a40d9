"""``anybroker send`` and ``anybroker call``: tasks sent by hand."""

from datetime import datetime
from typing import Annotated, Any, cast

import msgspec
import typer

from anybroker.app import App
from anybroker.backend import State
from anybroker.cli.options import AppTarget, AsJson, BrokerUrl, opened, read_moment, read_seconds
from anybroker.cli.output import print_json, print_warning
from anybroker.errors import ConfigurationError, TaskCancelled, TaskExpired, TaskFailed, UnknownTask
from anybroker.handle import Handle
from anybroker.loading import nearest
from anybroker.memory import MemoryBroker
from anybroker.sending import SendOptions
from anybroker.values import encode_value

Name = Annotated[str, typer.Argument(metavar="NAME", help="The task's registered name, e.g. tasks.add.")]
Args = Annotated[
    list[str] | None,
    typer.Argument(metavar="ARGS", help="Positional arguments, each as JSON; what is not JSON is taken as a string."),
]
Kwargs = Annotated[str | None, typer.Option(metavar="JSON", help="Keyword arguments, as a JSON object.")]
Queue = Annotated[str | None, typer.Option(help="In place of the task's own queue.")]
Delay = Annotated[
    float | None, typer.Option(parser=read_seconds, metavar="DURATION", help="Not before: 30s, 5m, 2h, 7d.")
]
Eta = Annotated[
    datetime | None,
    typer.Option(
        parser=read_moment, metavar="MOMENT", help="Not before: 2030-01-31T08:00, local time, or with a zone."
    ),
]
Expires = Annotated[
    float | None,
    typer.Option(parser=read_seconds, metavar="DURATION", help="Not to be started later than this from now."),
]
OrderingKey = Annotated[
    str | None, typer.Option(metavar="KEY", help="Tasks of a queue with one key run one after the other.")
]
Priority = Annotated[int | None, typer.Option(help="The higher number first.")]
Id = Annotated[str | None, typer.Option(help="In place of a generated id.")]
Headers = Annotated[list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="May be repeated.")]


def send(
    name: Name,
    args: Args = None,
    *,
    kwargs: Kwargs = None,
    queue: Queue = None,
    delay: Delay = None,
    eta: Eta = None,
    expires: Expires = None,
    priority: Priority = None,
    ordering_key: OrderingKey = None,
    id: Id = None,
    header: Headers = None,
    app: AppTarget = None,
    url: BrokerUrl = None,
    as_json: AsJson = False,
) -> None:
    """Send a task and print its id.

    With an app the name and the arguments are checked; with a URL the task may live in any program. Write -- before
    arguments that begin with a dash: anybroker send tasks.add -- -2 3

    \b
    Examples:
      anybroker send tasks.add 2 3 --app tasks:app
      anybroker send mail.welcome '{"name": "Ada"}' --delay 2h --url redis://localhost
    """  # noqa: D301
    options = _options(queue, delay, eta, expires, priority, ordering_key, id, header)
    with opened(app, url) as chosen:
        handle = _send(chosen, name, args, kwargs, options)
    if as_json:
        print_json({"id": handle.id, "queue": handle.queue})
    else:
        typer.echo(handle.id)


def call(
    name: Name,
    args: Args = None,
    *,
    kwargs: Kwargs = None,
    timeout: Annotated[
        float, typer.Option(parser=read_seconds, metavar="DURATION", help="How long to wait for the result.")
    ] = 30.0,
    queue: Queue = None,
    delay: Delay = None,
    eta: Eta = None,
    expires: Expires = None,
    priority: Priority = None,
    ordering_key: OrderingKey = None,
    id: Id = None,
    header: Headers = None,
    app: AppTarget = None,
    url: BrokerUrl = None,
    as_json: AsJson = False,
) -> None:
    """Send a task, wait for its result and print it as JSON.

    Exits with 1 and the remote traceback when the task failed, with 4 when the result did not come in time; the task
    then goes on.

    Example: anybroker call tasks.add 2 3 --app tasks:app --timeout 10s
    """
    options = _options(queue, delay, eta, expires, priority, ordering_key, id, header)
    with opened(app, url) as chosen:
        _check_results_are_kept(chosen, name)
        handle = _send(chosen, name, args, kwargs, options)
        try:
            result = msgspec.Raw(encode_value(handle.get(timeout), "json"))
        except (TaskFailed, TaskExpired, TaskCancelled) as error:
            if not as_json:
                raise
            print_json({"id": handle.id, **_failure(error)})
            raise typer.Exit(1) from error
    if as_json:
        print_json({"id": handle.id, "state": State.SUCCEEDED, "result": result})
    else:
        typer.echo(bytes(result).decode())


def _options(
    queue: str | None,
    delay: float | None,
    eta: datetime | None,
    expires: float | None,
    priority: int | None,
    ordering_key: str | None,
    id_: str | None,
    headers: list[str] | None,
) -> SendOptions:
    given = {
        "queue": queue,
        "delay": delay,
        "eta": eta,
        "expires": expires,
        "priority": priority,
        "ordering_key": ordering_key,
        "id": id_,
        "headers": dict(_header(text) for text in headers) if headers else None,
    }
    return cast("SendOptions", {name: value for name, value in given.items() if value is not None})


def _send(app: App, name: str, args: list[str] | None, kwargs: str | None, options: SendOptions) -> Handle[Any]:
    if type(app.broker) is MemoryBroker:
        print_warning("what is sent to memory:// ends with this command; use a broker that processes share")
    if app.tasks and name not in app.tasks:
        near = nearest(name, app.tasks)
        guess = f"did you mean {near}?" if near else f"it has: {', '.join(sorted(app.tasks))}"
        raise UnknownTask(f"the app has no task {name!r}; {guess}")
    return app.send_by_name(name, [_value(text) for text in args or ()], _named(kwargs), **options)


def _check_results_are_kept(app: App, name: str) -> None:
    """Before the task is sent, not after it."""
    app.results()
    definition = app.tasks.get(name)
    if definition is not None and not definition.keep_results:
        raise ConfigurationError(f"task {name} keeps no results: it is declared with results=False; use anybroker send")


def _value(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return text


def _named(text: str | None) -> dict[str, object]:
    try:
        return msgspec.json.decode(text, type=dict[str, object]) if text else {}
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(
            f"""{error}; write a JSON object such as '{{"name": 1}}'""", param_hint="--kwargs"
        ) from None


def _header(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise typer.BadParameter(f"{text!r}; write NAME=VALUE", param_hint="--header")
    return name, value


def _failure(error: TaskFailed | TaskExpired | TaskCancelled) -> dict[str, object]:
    if isinstance(error, TaskFailed):
        info = {"type": error.type, "message": error.remote_message, "traceback": error.remote_traceback}
        return {"state": State.FAILED, "error": info}
    state = State.EXPIRED if isinstance(error, TaskExpired) else State.CANCELLED
    return {"state": state, "error": {"type": "", "message": str(error), "traceback": ""}}
