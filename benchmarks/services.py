"""How fast the adapters are beside bare clients and peers, on servers that are started for it.

``make bench-services``, or ``python benchmarks/services.py sqs mongodb`` for some of them. Read the ratios: figures
move with the machine.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from anybroker_conformance.services import running
from anybroker_conformance.services.door import Door
from anybroker_conformance.services.state import State

HERE = Path(__file__).parent
PROGRAMS = {
    "rabbitmq": ["rabbitmq"],
    "rabbitmq_results": ["rabbitmq"],
    "sqs": ["sqs"],
    "pubsub": ["pubsub"],
    "mongodb": ["mongodb"],
    "memcache": ["memcached"],
    "round_trips": ["redis", "memcached", "mongodb", "rabbitmq"],
    "one_by_one": ["redis"],
    "scale": ["redis"],
}
"""Each with the services that it needs, whose URLs it is given."""


def main(chosen: list[str]) -> int:
    for name in chosen or PROGRAMS:
        services = PROGRAMS[name]
        with tempfile.TemporaryDirectory() as folder:
            state = Path(folder) / "state"
            door = Door(State(state))
            _, failures = door.up(services, "local")
            try:
                if failures:
                    print("\n".join(failures), file=sys.stderr)
                    return 1
                print(f"\n{name}", flush=True)
                urls = [running(state)[service].url for service in services]
                subprocess.run([sys.executable, HERE / f"{name}.py", *urls], check=True)
            finally:
                door.down(services)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
