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
NAMES = {"rabbitmq": "rabbitmq", "sqs": "sqs", "pubsub": "pubsub", "mongodb": "mongodb", "memcache": "memcached"}
"""The program of each, and the service that it needs."""


def main(chosen: list[str]) -> int:
    for name in chosen or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            state = Path(folder) / "state"
            door = Door(State(state))
            _, failures = door.up([NAMES[name]], "local")
            try:
                if failures:
                    print("\n".join(failures), file=sys.stderr)
                    return 1
                print(f"\n{name}", flush=True)
                subprocess.run([sys.executable, HERE / f"{name}.py", running(state)[NAMES[name]].url], check=True)
            finally:
                door.down([NAMES[name]])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
