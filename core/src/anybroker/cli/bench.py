"""``anybroker bench``: how fast a broker is, from here."""

from typing import Annotated

import msgspec
import typer

from anybroker.cli.bench_worker import BenchSpec
from anybroker.cli.measure import PHASES, Bench
from anybroker.cli.options import AsJson
from anybroker.cli.output import print_json, print_table, progress
from anybroker.cli.scratch import scratch_name
from anybroker.loading import redact
from anybroker.settings import load_settings


def bench(
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="The broker; by default as the settings say.")
    ] = None,
    *,
    results_url: Annotated[str | None, typer.Option(metavar="URL", help='The result backend; "none" for none.')] = None,
    tasks: Annotated[int, typer.Option(min=1, help="How many tasks each phase sends.")] = 50_000,
    concurrency: Annotated[int, typer.Option(min=1, help="How many tasks the worker runs at once.")] = 16,
    as_json: AsJson = False,
) -> None:
    """Measure a broker with tasks that do nothing and one worker process (memory://: in this process).

    \b
      enqueue      sent one at a time, by one thread
      bulk         sent with send_many, 1000 at a time
      drain        run by a worker that finds them all waiting, from the first that runs to the last; results off
      pipeline     sent with send_many to a waiting worker, from the first that is sent to the last that has run;
                   results off
      round trip   from send to the return of get, one after another, while the worker is awake
      fan out      1000 tasks sent with send_many, until the last of their results is there
      rss          the most memory that the worker has used

    Uses a queue of its own and leaves it empty; a file such as that of SQLite stays as large as it has become.

    Example: anybroker bench sqlite:///bench.db --tasks 50000 --json
    """  # noqa: D301
    settings = load_settings(url=url, results_url=results_url)
    spec = BenchSpec(
        url=settings.url, results_url=settings.results_url, queue=scratch_name("bench"), concurrency=concurrency
    )
    with progress("measuring", PHASES) as advance:
        figures = Bench(spec, tasks, advance).run()
    measured = msgspec.structs.asdict(figures)
    if as_json:
        print_json({"url": redact(settings.url), **measured})
    else:
        typer.echo(redact(settings.url))
        print_table(("figure", "value"), [(name.replace("_", " "), value) for name, value in measured.items()])
