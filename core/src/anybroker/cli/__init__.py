"""The command line, ``anybroker``: thin commands over what the library does."""

import signal
import sys


def main() -> None:
    """The entry point of ``anybroker``."""
    if sys.argv[1:2] == ["worker"]:  # held back, also across its exec, until its process can exit with 0
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    from anybroker.cli.root import root  # not for `launch`, whose process is to stay small

    root(prog_name="anybroker")
