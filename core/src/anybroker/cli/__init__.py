"""The command line, ``anybroker``: thin commands over what the library does."""


def main() -> None:
    """The entry point of ``anybroker``."""
    from anybroker.cli.root import root  # not for `launch`, whose process is to stay small

    root(prog_name="anybroker")
