"""The report of one adapter: what the JSON file holds, and what every other form is made from."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Status = Literal["proven", "proven weaker", "refused", "untested", "broken"]
Verdict = Literal["proven", "broken", "untested", "not testable"]


class Moment(msgspec.Struct, frozen=True):
    """One call in the timeline of a message, a result, a group or a lock."""

    client: Annotated[str, Meta(description="Which object made the call.")]
    verb: Annotated[str, Meta(description="The method that was called.")]
    what: Annotated[str, Meta(description="The call and its answer in words.")]
    began: Annotated[float, Meta(description="Seconds since the timeline began, by the clock that judges leases.")]
    ended: Annotated[float | None, Meta(description="As began; null: the call never returned.")] = None
    held_until: Annotated[float | None, Meta(description="When the lease that the call got runs out; as began.")] = None


class Failure(msgspec.Struct, frozen=True):
    """One test that found the law broken."""

    test: Annotated[str, Meta(description="The name of the test.")]
    text: Annotated[str, Meta(description="What is wrong, in a sentence.")]
    replay: Annotated[str, Meta(description="The command that runs this test again with the same seed.")]
    about: Annotated[str | None, Meta(description="The message, result, group or lock that shows it.")] = None
    timeline: Annotated[list[str], Meta(description="What happened to it, a line for each call.")] = []
    moments: Annotated[list[Moment], Meta(description="The same for drawing.")] = []
    traceback: Annotated[list[str], Meta(description="Where an unexpected error came from.")] = []


class Untested(msgspec.Struct, frozen=True):
    """One test that could not be run here."""

    law: int
    name: Annotated[str, Meta(description="The name of the law.")]
    test: Annotated[str, Meta(description="The name of the test.")]
    reason: str


class LawResult(msgspec.Struct, frozen=True):
    """What is known of one law."""

    law: Annotated[int, Meta(description="The number of the law.")]
    name: str
    text: Annotated[str, Meta(description="What the law says.")]
    status: Annotated[
        Status,
        Meta(
            description="proven: it holds. proven weaker: it holds in the weaker form that the adapter declares. "
            "refused: the ability is not declared, and its use is refused. untested: no test of it could be run "
            "here. broken: a test failed."
        ),
    ]
    declared: Annotated[str | None, Meta(description="What the adapter declares about it.")]
    tests: Annotated[int, Meta(description="Tests that were run.", ge=0)]
    seconds: Annotated[float, Meta(description="The time that they took, added up.", ge=0)]
    reason: Annotated[str | None, Meta(description="Why it, or a part of it, is untested.")] = None
    failures: list[Failure] = []


class Figure(msgspec.Struct, frozen=True):
    """Seconds that were measured."""

    p50: Annotated[float, Meta(description="The median, in seconds.")]
    p99: Annotated[float, Meta(description="The 99th percentile, in seconds.")]
    n: Annotated[int, Meta(description="How many measurements.", ge=1)]

    @classmethod
    def of(cls, measured: list[float]) -> Figure:
        """The percentiles of at least one measurement, by nearest rank."""
        ranked = sorted(measured)
        p50, p99 = (ranked[math.ceil(share * len(ranked)) - 1] for share in (0.5, 0.99))
        return cls(round(p50, 6), round(p99, 6), len(ranked))


class Case(msgspec.Struct, frozen=True):
    """One test that was run, for the forms that list them one by one."""

    law: int
    test: str
    outcome: Literal["passed", "broken", "untested"]
    seconds: float


class Report(msgspec.Struct, frozen=True):
    """What one run has found out about one broker or result backend."""

    adapter: Annotated[str, Meta(description="The scheme of the adapter's URLs, or the name of its class.")]
    kind: Literal["broker", "backend"]
    server: Annotated[str | None, Meta(description="The server and its version, where known.")]
    seed: Annotated[int, Meta(description="What the random workloads were drawn from.")]
    duration_seconds: Annotated[float, Meta(description="From the first test to the last.", ge=0)]
    verdict: Annotated[
        Verdict,
        Meta(
            description="broken: at least one law. untested: nothing could be tested, or not all although --strict "
            "wants it. not testable: the adapter did not get as far as the first law."
        ),
    ]
    laws: Annotated[list[LawResult], Meta(description="The laws that were selected, by number.")]
    figures: Annotated[dict[str, Figure], Meta(description="What was measured, by name.")]
    untested: Annotated[list[Untested], Meta(description="Everything that could not be tested here.")]
    suite: Annotated[str, Meta(description="The test class.")]
    url: Annotated[str | None, Meta(description="Of the adapter, without passwords; null where a factory made it.")]
    complete: Annotated[bool, Meta(description="Whether all tests of all laws were selected.")]
    problem: Annotated[str | None, Meta(description="Why the adapter is not testable.")]
    tests: Annotated[list[Case], Meta(description="Every test that was run, or said to be untested.")]
    versions: Annotated[dict[str, str], Meta(description="Of Python and of the packages that took part.")]

    @property
    def broken(self) -> list[LawResult]:
        """The laws that do not hold."""
        return [law for law in self.laws if law.status == "broken"]

    @property
    def title(self) -> str:
        """What was tested."""
        return f"{self.adapter} {self.kind}" + (f" on {self.server}" if self.server else "")

    def sentence(self) -> str:
        """The verdict in words."""
        if self.problem is not None:
            return f"The {self.kind} cannot be tested: {self.problem}"
        ran = [law for law in self.laws if law.status != "untested"]
        weaker = sum(law.status in {"proven weaker", "refused"} for law in self.laws)
        aside = f"; {_many(len(self.untested), 'test')} could not be run here" if self.untested else ""
        if self.broken:
            named = ", ".join(f"{law.law} ({law.name})" for law in self.broken)
            return f"{_many(len(self.broken), 'law')} of {len(self.laws)} broken: {named}{aside}"
        if not ran:
            return f"No law was tested{aside}"
        declared = f", {weaker} of them in the weaker form that is declared" if weaker else ""
        selected = "" if self.complete else ", as far as they were selected"
        of_all = f" of {len(self.laws)}" if len(ran) < len(self.laws) else ""
        return f"Keeps {_many(len(ran), 'law')}{of_all}{selected}{declared}{aside}"


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def schema() -> dict[str, object]:
    """The JSON Schema (2020-12) of the file: one report, or a list of them where several adapters were tested."""
    (report,), definitions = msgspec.json.schema_components([Report], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The report of anybroker's conformance suite",
        "anyOf": [report, {"type": "array", "items": report, "minItems": 2}],
        "$defs": definitions,
    }
