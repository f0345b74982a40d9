"""``python -m anybroker_conformance.services``."""

from anybroker_conformance.services.command import command

command(prog_name="python -m anybroker_conformance.services")
