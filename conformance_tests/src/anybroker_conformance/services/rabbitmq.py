"""RabbitMQ with its management plugin: a private node that knows of no other, with an epmd of its own."""

# ruff: noqa: D102  Service says what its methods are for
from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from anybroker_conformance.services import probes
from anybroker_conformance.services.requirements import Program
from anybroker_conformance.services.service import Node, Service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anybroker_conformance.services.requirements import Requirement

# Debian's rabbitmq-server on the PATH switches to a user of its own.
_SERVER = Program("rabbitmq-server", apt="rabbitmq-server", brew="rabbitmq", first="/usr/lib/rabbitmq/bin")
_EPMD = Program("epmd", apt="erlang-base", brew="erlang")
_IDLE = "+sbwt none +sbwtdcpu none +sbwtdio none"
"""Its schedulers are not to keep the cores busy while they wait: those are shared with the tests."""
FILES = 16384
"""That it may open. It sets three aside for each quorum queue, and lets nobody in when there are none left."""
_MORE_FILES = f'ulimit -n {FILES} 2>/dev/null || ulimit -S -n "$(ulimit -H -n)"\n'
_PLUGIN = "rabbitmq_management"
_CONFIRM_SECONDS = 1
"""A quorum queue that dead-letters to a queue which is not back yet after a restart tries again after three minutes."""
_CONFIGURATION = """\
listeners.tcp.local = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
loopback_users = none
vm_memory_high_watermark.absolute = 1500MB
disk_free_limit.absolute = 50MB
collect_statistics_interval = 1000
"""


def _with_dependencies(plugins: Path, name: str) -> set[str]:
    """An application of Erlang, and those it needs, as far as they are among the plugins."""
    names, todo = {name}, [name]
    while todo:
        for file in plugins.glob(f"{todo.pop()}-*/ebin/*.app"):
            needed = re.search(r"{applications,\s*\[(.*?)\]", file.read_text(), re.DOTALL)
            new = {one.strip() for one in needed[1].split(",")} - names if needed else set[str]()
            names |= new
            todo += new
    return names


class RabbitMQ(Service):
    """Durable queues and the persistent messages in them survive SIGKILL."""

    name = "rabbitmq"
    ports: ClassVar = {"amqp": 16672, "management": 16673}
    more_ports = ("distribution", "epmd")

    @property
    def requirements(self) -> Sequence[Requirement]:
        return [_SERVER, _EPMD]

    def nodes(self, folder: Path, ports: Mapping[str, int]) -> Sequence[Node]:
        home = folder / self.name
        self._configure(home, ports)
        epmd_port = str(ports["epmd"])
        environment = {
            "HOME": str(home),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": epmd_port,
            "RABBITMQ_NODENAME": f"anybroker{ports['amqp']}@localhost",
            "RABBITMQ_DIST_PORT": str(ports["distribution"]),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home / "logs"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            # The script becomes the server instead of waiting for it, and the server needs no terminal.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-noinput {_IDLE} -kernel inet_dist_use_interface {{127,0,0,1}}"
            f" -rabbit dead_letter_worker_publisher_confirm_timeout {1000 * _CONFIRM_SECONDS}",
        }
        return [
            Node("epmd", (_EPMD.path(), "-port", epmd_port, "-address", "127.0.0.1"), helper=True),
            Node(self.name, (_SERVER.path(),), environment, after=lambda: self._epmd_answers(ports["epmd"])),
        ]

    def _configure(self, home: Path, ports: Mapping[str, int]) -> None:
        cookie = home / ".erlang.cookie"
        if cookie.exists():
            return
        home.mkdir(exist_ok=True)
        (home / "rabbitmq.conf").write_text(_CONFIGURATION.format(amqp=ports["amqp"], management=ports["management"]))
        (home / "enabled_plugins").write_text(f"[{_PLUGIN}].\n")
        (home / "rabbitmq-env.conf").write_text(_MORE_FILES + self._fewer_plugins(home / "server"))
        cookie.write_text(secrets.token_hex())
        cookie.chmod(0o400)

    def _fewer_plugins(self, folder: Path) -> str:
        """Settings for a server with fewer plugins in its folder, in which Erlang looks for each of a thousand modules.

        That saves a third of the processor time of a start.
        """
        plugins = Path(_SERVER.path()).resolve().parent.parent / "plugins"
        if not any(plugins.glob(f"{_PLUGIN}-*/ebin/*.app")):
            return ""  # packed, or elsewhere
        (folder / "plugins").mkdir(parents=True)
        wanted = _with_dependencies(plugins, _PLUGIN) | _with_dependencies(plugins, "rabbit")
        for found in plugins.iterdir():
            name = found.name.partition("-")[0]
            if not name.startswith("rabbitmq_") or name in wanted:
                (folder / "plugins" / found.name).symlink_to(found)
        return f"RABBITMQ_HOME='{folder}'\n"

    def _epmd_answers(self, port: int) -> None:
        # The request NAMES of the Erlang distribution protocol; the answer begins with the port.
        answer = probes.exchange(port, b"\x00\x01n", 4)
        if int.from_bytes(answer) != port:
            raise OSError(f"another program than epmd listens on port {port}")

    def probe(self, ports: Mapping[str, int]) -> str:
        probes.http_get(ports["management"], "/")
        return probes.amqp_version(ports["amqp"])

    def url(self, ports: Mapping[str, int]) -> str:
        return f"amqp://guest:guest@127.0.0.1:{ports['amqp']}/"

    def variables(self, ports: Mapping[str, int]) -> dict[str, str]:
        management = f"http://guest:guest@127.0.0.1:{ports['management']}"
        return super().variables(ports) | {f"{self.prefix}_MANAGEMENT_URL": management}
