"""Sending: what an option does to a message, and what is refused before anything is sent."""

from __future__ import annotations

import asyncio
import inspect
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any
from uuid import RFC_4122, UUID

import pytest

from anybroker import (
    App,
    ArgumentsError,
    ConfigurationError,
    MessageTooLarge,
    Retry,
    Unsupported,
    current_context,
    fixed,
)
from anybroker.memory import MemoryBroker
from anybroker.task import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker import Context
    from anybroker.broker import Message
    from anybroker.testing import Testing


@pytest.fixture
def ran(app: App) -> list[str]:
    """Names noted by the task ``note``, in the order in which it ran."""
    noted: list[str] = []

    @app.task(name="note")
    def note(name: str) -> None:
        noted.append(name)

    return noted


def note(app: App, name: str, **options: Any) -> None:
    app.send_by_name("note", [name], **options)


def test_a_task_is_still_a_function(app: App) -> None:
    @app.task
    def double(x: int) -> int:
        """Twice x."""
        return 2 * x

    @app.task
    async def triple(x: int) -> int:
        return 3 * x

    assert (double(2), asyncio.run(triple(2))) == (4, 6)
    assert inspect.getdoc(double) == "Twice x."
    assert list(inspect.signature(double).parameters) == ["x"]
    assert double.name.endswith(".test_a_task_is_still_a_function.<locals>.double")


def test_delay_and_eta_are_kept_by_the_broker(app: App, t: Testing, ran: list[str]) -> None:
    note(app, "delayed", delay=timedelta(days=2))
    note(app, "eta", eta=t.now + timedelta(days=1))
    note(app, "now")
    assert (t.run(), ran) == (1, ["now"])
    t.advance(timedelta(days=1) - timedelta(seconds=1))
    assert t.run() == 0
    t.advance(1)
    assert (t.run(), ran) == (1, ["now", "eta"])
    t.advance(timedelta(days=1))
    assert (t.run(), ran) == (1, ["now", "eta", "delayed"])


def test_a_later_delay_replaces_an_eta(app: App, t: Testing, ran: list[str]) -> None:
    @app.task
    def later() -> None:
        ran.append("later")

    call = later.s().options(eta=t.now + timedelta(days=9)).options(delay=5)
    call.send()
    assert t.run() == 0
    t.advance(5)
    assert (t.run(), ran) == (1, ["later"])


def test_a_later_eta_replaces_a_delay(app: App, t: Testing, ran: list[str]) -> None:
    note(app, "now")
    app.signature("note", ["eta"], {}).options(delay=60).options(eta=t.now + timedelta(seconds=5)).send()
    t.advance(5)
    t.run()
    assert ran == ["now", "eta"]


def test_queue_and_priority(app: App, t: Testing, ran: list[str]) -> None:
    note(app, "low", priority=-1)
    note(app, "high", priority=5)
    note(app, "plain")
    note(app, "elsewhere", queue="other")
    assert t.broker.stats("other").ready == 1
    t.run()
    assert [name for name in ran if name != "elsewhere"] == ["high", "plain", "low"]


def test_tasks_of_one_ordering_key_wait_for_each_other(app: App, t: Testing) -> None:
    ran = []

    @app.task(retry=Retry(max=1, after=60))
    def account(event: int) -> None:
        ran.append(event)
        if ran == [1]:
            raise OSError

    for event in (1, 2):
        account.options(ordering_key="ada").send(event)
    account.options(ordering_key="bob").send(3)
    t.run()
    assert ran == [1, 3], "2 overtook 1, which waits for its retry"
    t.advance(60)
    t.run()
    assert ran == [1, 3, 1, 2]


def test_expires_as_a_moment_and_as_seconds(app: App, t: Testing, ran: list[str]) -> None:
    note(app, "seconds", expires=10)
    note(app, "moment", expires=t.now + timedelta(seconds=10))
    note(app, "in time", expires=20)
    t.advance(11)
    t.run()
    assert ran == ["in time"]
    assert t.dead() == []


@pytest.mark.parametrize("far", [1e300, 1e12, timedelta.max])
def test_no_expiry_is_more_than_a_hundred_years_away(app: App, far: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"expires=.*leave it out"):
        note(app, "never", expires=far)


def test_headers_and_id_reach_the_task(app: App, t: Testing) -> None:
    seen: list[Context] = []

    @app.task
    def look() -> None:
        seen.append(current_context())

    handle = look.options(headers={"tenant": "7"}, id="mine").send()
    t.run()
    assert (handle.id, seen[0].id, seen[0].name, seen[0].queue) == ("mine", "mine", look.name, "default")
    assert seen[0].headers == {"tenant": "7"}
    assert (seen[0].attempt, seen[0].retries, seen[0].delivery_count, seen[0].last_error) == (1, 0, 1, None)


def test_the_same_id_twice_runs_once_while_it_waits_and_again_after(app: App, t: Testing, ran: list[str]) -> None:
    note(app, "first", id="x")
    note(app, "second", id="x")
    t.run()
    note(app, "third", id="x")
    t.run()
    assert ran == ["first", "third"]


def test_retry_and_timeout_replace_what_is_declared(app: App, t: Testing) -> None:
    @app.task(retry=Retry(max=5), timeout=10)
    def fail() -> None:
        raise ValueError(current_context().task.timeout)

    fail.options(retry=Retry(max=1, after=fixed(7)), timeout=3).send()
    t.run()
    t.advance(6.9)
    assert t.run() == 0
    t.advance(0.1)
    assert t.run() == 1
    (letter,) = t.dead()
    assert letter.attempt == 2
    assert letter.error is not None
    assert letter.error.message == "3.0"


def test_a_policy_without_end_is_read_by_workers(app: App, t: Testing) -> None:
    attempts = []

    @app.task
    def fail_twice() -> None:
        attempts.append(current_context().attempt)
        if len(attempts) < 3:
            raise ValueError

    fail_twice.options(retry=Retry(max=10**12, after=1)).send()
    assert t.run_until_idle() == 3
    assert t.dead() == []


def test_send_many_sends_all_in_one_call_of_the_broker(app: App, t: Testing, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    enqueue = t.broker.enqueue

    def noting(messages: Sequence[Message]) -> None:
        calls.append(len(messages))
        enqueue(messages)

    monkeypatch.setattr(t.broker, "enqueue", noting)

    @app.task
    def square(x: int) -> int:
        return x * x

    handles = app.send_many([square.s(i) for i in range(100)])
    t.run()
    assert calls == [100]
    assert [handle.get() for handle in handles] == [i * i for i in range(100)]
    assert app.send_many([]) == []


def test_a_signature_carries_its_options_and_can_be_sent_twice(app: App, t: Testing) -> None:
    @app.task
    def add(a: int, b: int = 1) -> int:
        return a + b

    call = add.options(queue="sums", headers={"a": "1"}).s(2, b=3).options(priority=4)
    first, second = call.send(), call.send()
    assert first.id != second.id
    assert [(m.queue, m.priority) for m in t.broker.peek("sums")] == [("sums", 4)] * 2
    t.run()
    assert (first.get(), second.get()) == (5, 5)


def test_send_async(app: App, t: Testing) -> None:
    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    async def send() -> list[int]:
        handles = [await add.send_async(2, 3), await add.s(3, 4).send_async()]
        t.run()
        return [await handle for handle in handles]

    assert asyncio.run(send()) == [5, 7]


def test_send_by_name_reaches_a_task_of_another_program(make_app: Callable[..., App], sqlite_url: str) -> None:
    here, there = make_app(sqlite_url), make_app(sqlite_url)

    @there.task(name="billing.charge")
    def charge(cents: int, *, note: str = "") -> str:
        return f"{cents} {note}"

    handle = here.send_by_name("billing.charge", [250], {"note": "tip"})
    with there.worker(concurrency=1):
        assert handle.get(timeout=10) == "250 tip"
        assert here.handle(handle.id).get(timeout=1) == "250 tip"


def test_send_by_name_checks_the_arguments_of_a_task_that_is_known_here(app: App, t: Testing) -> None:
    @app.task(name="charge")
    def charge(cents: int) -> None: ...

    with pytest.raises(ArgumentsError, match=r"charge\(\)"):
        app.send_by_name("charge", ["a lot"])
    assert t.broker.queues() == []
    app.send_by_name("unknown.elsewhere", ["a lot"])
    assert t.broker.queues() == ["default"]


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2), {}), (("one",), {}), ((1,), {"b": 2}), ((object(),), {}), ((None,), {})]
)
def test_a_wrong_call_raises_where_it_is_sent(
    app: App, t: Testing, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    @app.task(name="increment")
    def increment(x: int) -> int:
        return x + 1

    loose: Any = increment
    for send in (loose.send, loose.s, loose.options(delay=1).send):
        with pytest.raises(ArgumentsError, match="increment") as raised:
            send(*args, **kwargs)
        assert isinstance(raised.value, TypeError)
    with pytest.raises(ArgumentsError):
        asyncio.run(loose.send_async(*args, **kwargs))
    assert t.broker.queues() == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"delay": 1, "eta": datetime(2031, 1, 1, tzinfo=UTC)}, "delay or eta"),
        ({"delay": -1}, "past"),
        ({"eta": datetime(2031, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({"expires": datetime(2031, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({"timeout": 0}, "timeout"),
        ({"timeout": -5}, "timeout"),
        ({"retry": Retry(on=ValueError)}, "on="),
        ({"retry": Retry(after=lambda n: n)}, "function"),
        ({"headers": {"a": 1}}, "headers"),
        ({"id": ""}, "id"),
        ({"id": "\ud800"}, "no valid Unicode"),
        ({"queue": "\ud800"}, "no valid Unicode"),
        ({"ordering_key": "\ud800"}, "no valid Unicode"),
        ({"headers": {"a": "\ud800"}}, "no valid Unicode"),
        ({"queue": "q" * 81}, "80"),
        ({"queue": ""}, "80"),
        ({"prioritty": 3}, "priority"),
    ],
)
def test_a_wrong_option_raises_where_it_is_given(app: App, t: Testing, options: dict[str, Any], says: str) -> None:
    @app.task
    def nothing() -> None: ...

    with pytest.raises(ConfigurationError, match=says):
        nothing.options(**options).send()
    assert t.broker.queues() == []


@pytest.mark.parametrize("length", [1, 40, 75, 76, 80])
def test_a_queue_has_a_dead_letter_queue_of_its_own_however_long_its_name(app: App, t: Testing, length: int) -> None:
    @app.task
    def fail() -> None:
        raise ValueError

    queues = ["q" * length, "q" * (length - 1) + "r"]
    for queue in queues:
        fail.options(queue=queue).send()
    t.run()
    assert [[letter.queue for letter in t.dead(queue)] for queue in queues] == [[queue] for queue in queues]


def test_what_is_too_large_raises_where_it_is_sent(make_app: Callable[..., App]) -> None:
    app = make_app("memory://?max_body=3000")

    @app.task
    def take(text: str) -> None: ...

    with pytest.raises(MessageTooLarge, match=r"take\(\)"):
        take.send("x" * 3000)
    take.send("x" * 1000)
    assert app.inspect().stats("default").total == 1


def test_an_undeclared_ability_raises_where_it_is_sent(app: App) -> None:
    @app.task
    def nothing() -> None: ...

    with pytest.raises(Unsupported, match="priority"):
        nothing.options(priority=2**40).send()


def test_a_broker_object_comes_without_results(make_app: Callable[..., App]) -> None:
    app = make_app(None, broker=MemoryBroker())
    assert app.backend is None


class Declared:
    """Two functions at different places, for one name."""

    @staticmethod
    def one() -> None: ...

    @staticmethod
    def other() -> None: ...


def test_a_name_is_taken_once(app: App) -> None:
    app.task(name="same")(Declared.one)
    app.task(name="same")(Declared.one)
    with pytest.raises(ConfigurationError, match="two tasks are named 'same'"):
        app.task(name="same")(Declared.other)


def charge_in(currency: str) -> Callable[[], str]:
    def charge() -> str:
        return currency

    return charge


class Charge:
    def __init__(self, currency: str) -> None:
        self.currency = currency

    def charge(self) -> str:
        return self.currency

    @classmethod
    def name(cls) -> str:
        return cls.__name__


class Gift(Charge):
    pass


def careless(function: Callable[[], Any]) -> Callable[[], Any]:
    def wrapper() -> Any:
        return function()

    return wrapper


def careful(function: Callable[[], Any]) -> Callable[[], Any]:
    return update_wrapper(careless(function), function)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (charge_in("EUR"), charge_in("USD")),
        (careless(Declared.one), careless(Declared.other)),
        (careless(careless(Declared.one)), careless(careless(Declared.other))),
        (careful(Declared.one), careful(Declared.other)),
        (Charge("EUR").charge, Charge("USD").charge),
        (Charge.name, Gift.name),
        (lambda: "one", lambda: "other"),
    ],
    ids=["factory", "decorator without wraps", "two of them", "decorator", "methods", "class methods", "lambdas"],
)
def test_functions_of_the_same_lines_that_do_other_things_need_names_of_their_own(
    app: App, t: Testing, one: Callable[[], Any], other: Callable[[], Any]
) -> None:
    first = app.task(name="same")(one)
    with pytest.raises(ConfigurationError, match="two tasks are named 'same'"):
        app.task(name="same")(other)
    handle = first.send()
    t.run()
    assert handle.get() == one()


def test_what_is_declared_anew_is_the_same_task(app: App) -> None:
    def declare(function: Callable[[], Any]) -> None:
        app.task(name=f"{function.__qualname__}")(function)

    def counting() -> Callable[[], Any]:
        def count() -> None:
            count()

        return count

    makers: list[Callable[[], Callable[[], Any]]] = [
        counting,
        lambda: charge_in("EUR"),
        lambda: careless(Declared.one),
        lambda: careful(Declared.one),
        lambda: Charge("EUR").charge,
        lambda: Charge.name,
        lambda: lambda: "one",
    ]
    for make in makers:
        declare(make())
        declare(make())


def test_a_declaration_that_cannot_work_is_refused(app: App) -> None:
    class Opaque: ...

    def takes_opaque(x: int) -> None: ...

    takes_opaque.__annotations__["x"] = Opaque
    with pytest.raises(ConfigurationError, match="Opaque"):
        app.task(takes_opaque)
    with pytest.raises(ConfigurationError, match="timeout"):
        app.task(timeout=0)(Declared.one)
    with pytest.raises(ConfigurationError, match="80"):
        app.task(queue="q" * 81)(Declared.one)
    no_names: list[Any] = [["mail"], 5]
    for queue in no_names:
        with pytest.raises(ConfigurationError, match="a queue's name is a text"):
            app.task(queue=queue)(Declared.one)
    with pytest.raises(ConfigurationError, match=r"'mail\.dead' is a dead-letter queue"):
        app.task(queue="mail.dead")(Declared.one)
    for name in ("n" * 256, *no_names):
        with pytest.raises(ConfigurationError, match="a task's name is a text of 1 to 255 characters"):
            app.task(name=name)(Declared.one)
        with pytest.raises(ConfigurationError, match="a task's name is a text of 1 to 255 characters"):
            app.job(name)
    with pytest.raises(ConfigurationError, match="max"):
        Retry(max=-1)
    for results in (0, -1, timedelta(0)):
        with pytest.raises(ConfigurationError, match="False to keep none"):
            app.task(results=results)(Declared.one)
    hooks: Any = [print, None]
    with pytest.raises(ConfigurationError, match="hook None is neither a function nor a task"):
        app.task(on_success=hooks)(Declared.one)


class Echo:
    def __call__(self, x: int) -> int:
        return x


@pytest.mark.parametrize("function", [partial(careless), Echo(), None], ids=["partial", "object", "nothing"])
def test_what_is_no_function_says_that_one_is_wanted(app: App, function: Any) -> None:
    with pytest.raises(ConfigurationError, match="into a function of your own"):
        app.task(name="same")(function)


def test_a_call_by_name_that_no_worker_could_read_is_refused(app: App) -> None:
    app.task(name="known")(Declared.one)
    wrong: Any
    for wrong in ("", "n" * 256, 5):
        with pytest.raises(ConfigurationError, match="a task's name"):
            app.send_by_name(wrong)
    for name in ("known", "elsewhere"):
        for wrong in ("ada@example.org", b"ada", {"address": "ada"}, 5):
            with pytest.raises(ArgumentsError, match=rf"{name}\(\): its positional arguments are given as a list"):
                app.send_by_name(name, wrong)
        for wrong in (["ada"], 5, {5: "ada"}):
            with pytest.raises(ArgumentsError, match=rf"{name}\(\): its keyword arguments are given as a dict"):
                app.send_by_name(name, [], wrong)
    assert app.inspect().queues() == []


def test_a_url_that_is_given_as_an_object_says_where_it_belongs() -> None:
    url: Any = "redis://user:secret@localhost"
    for argument, says in {"broker": r'App\("\.\.\."\)', "backend": "results_url="}.items():
        with pytest.raises(ConfigurationError, match=says) as caught:
            App(**{argument: url})
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 256])
def test_a_name_that_no_worker_would_read_is_refused(app: App, t: Testing, length: int) -> None:
    name = "n" * length
    with pytest.raises(ConfigurationError, match="1 to 255 characters"):
        app.task(name=name)(Declared.one)
    with pytest.raises(ConfigurationError, match="1 to 255 characters"):
        app.job(name)
    with pytest.raises(ConfigurationError, match="1 to 255 characters"):
        app.send_by_name(name)
    assert (app.tasks, t.broker.queues()) == ({}, [])


def test_a_name_is_valid_unicode(app: App) -> None:
    with pytest.raises(ConfigurationError, match="no valid Unicode"):
        app.task(name="\ud800")(Declared.one)


def test_a_name_may_be_as_long_as_a_worker_reads(app: App, t: Testing) -> None:
    app.task(name="n" * 255)(Declared.one).send()
    assert t.run() == 1
    assert t.dead() == []


def test_a_generated_id_is_a_uuid_of_version_7__sorted_by_time() -> None:
    before = time.time_ns() // 1_000_000
    id_ = UUID(new_id())
    assert (id_.version, id_.variant) == (7, RFC_4122)
    assert before <= id_.int >> 80 <= time.time_ns() // 1_000_000


def test_generated_ids_differ__also_when_a_program_seeds_its_random_numbers() -> None:
    ids = []
    for _ in range(1000):
        random.seed(7)
        ids.append(new_id())
    assert len({id_[15:] for id_ in ids}) == 1000


FORKED = """
import os
from anybroker.task import new_id
new_id()
for _ in range(2):
    if (child := os.fork()) == 0:
        os.write(1, new_id().encode() + b"\\n")
        os._exit(0)
    os.waitpid(child, 0)
os.write(1, new_id().encode() + b"\\n")
"""


def test_generated_ids_differ_in_the_children_of_a_fork() -> None:
    ids = subprocess.check_output([sys.executable, "-c", FORKED], text=True, timeout=60).split()
    assert len({id_[15:] for id_ in ids}) == 3
