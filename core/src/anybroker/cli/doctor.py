"""``anybroker doctor``: does it work, and what does it promise."""

from enum import Enum
from typing import Annotated, Any

import msgspec
import typer

from anybroker.cli.examination import Examination
from anybroker.cli.options import AsJson
from anybroker.cli.output import print_json
from anybroker.loading import redact
from anybroker.settings import load_settings


def doctor(
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="The broker; by default as the settings say.")
    ] = None,
    *,
    results_url: Annotated[str | None, typer.Option(metavar="URL", help='The result backend; "none" for none.')] = None,
    as_json: AsJson = False,
) -> None:
    """Check a broker and its result backend, and show what they promise.

    Checks the URL, the adapter, the connection (which has to answer within a second), a round trip of one message in a
    queue of its own, the server's clock, and a result. Leaves nothing behind. Exits with 0 when all is well, with 2 for
    a wrong URL, with 3 for a service that does not answer, with 1 for one that answers wrongly.

    Example: anybroker doctor redis://localhost:6379/0
    """
    settings = load_settings(url=url, results_url=results_url)
    examination = Examination(settings)
    examination.run()
    capabilities = {name: _readable(one.capabilities) for name, one in examination.opened.items()}
    examination.close()
    if as_json:
        print_json(
            {
                "url": redact(settings.url),
                "ok": examination.exit_code == 0,
                "findings": examination.findings,
                "latency_ms": examination.latency_ms,
                "clock_skew_seconds": examination.clock_skew,
                "capabilities": capabilities,
            }
        )
    else:
        _print(examination, capabilities)
    raise typer.Exit(examination.exit_code)


def _readable(capabilities: msgspec.Struct) -> dict[str, Any]:
    values = {name: getattr(capabilities, name) for name in capabilities.__struct_fields__}
    return {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}


def _print(examination: Examination, capabilities: dict[str, dict[str, Any]]) -> None:
    for finding in examination.findings:
        mark = "ok  " if finding.ok else "FAIL"
        typer.echo(f"{mark}  {finding.check + ':':<12}{finding.detail}")
    if examination.clock_skew is not None:
        where = "ahead of" if examination.clock_skew > 0 else "behind"
        typer.echo(f"      {'clock:':<12}the server's is {abs(examination.clock_skew):.3f} s {where} ours")
    for name, declared in capabilities.items():
        typer.echo(f"\nwhat the {name} promises")
        for capability, value in declared.items():
            typer.echo(f"  {capability.replace('_', ' '):<20}{_text(value)}")


def _text(value: object) -> str:
    match value:
        case True:
            return "yes"
        case False:
            return "no"
        case None:
            return "none"
        case (lowest, highest):
            return f"{lowest} to {highest}"
        case int():
            return f"{value:,}"
    return str(value)
