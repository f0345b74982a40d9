"""The Lua of this package: one file per verb in ``lua/``, named for what it does.

``python -m anybroker_broker_redis.scripts enqueue`` prints one, for ``redis-cli --eval`` and other languages.
"""

from __future__ import annotations

import sys
from functools import cache
from hashlib import sha1
from importlib.resources import files

import msgspec


class Script(msgspec.Struct, frozen=True):
    """A script as the server knows it."""

    source: str
    sha: str


@cache
def script(
    name: str, *, behind: tuple[str, ...] = ("keys", "states"), package: str = "anybroker_broker_redis"
) -> Script:
    """The script ``lua/<name>.lua`` of a package, behind other parts of it."""
    folder = files(package) / "lua"
    source = "".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in (*behind, name))
    return Script(source, sha1(source.encode(), usedforsecurity=False).hexdigest())


if __name__ == "__main__":
    alone = sys.argv[1] in {"enqueue_one", "enqueue_ready"}
    print(script(sys.argv[1], behind=() if alone else ("keys", "states")).source, end="")  # noqa: T201  what it is for
