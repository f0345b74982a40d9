"""Storing and fetching results in Memcached: the backend beside bare pymemcache."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from beside import BODY, ROUNDS, Rates
from pymemcache.client.base import Client

from anybroker.backend import Result, State
from anybroker.loading import load_backend

RESULTS = 400


def main(url: str) -> None:
    backend, rates = load_backend(url), Rates()
    host, _, port = url.partition("://")[2].partition(":")
    bare: Any = Client((host, int(port or 11211)), no_delay=True)
    for turn in range(ROUNDS * 3):
        ours = [Result(f"{turn}.{index}", State.SUCCEEDED, 1, BODY) for index in range(RESULTS)]
        ids = [one.id for one in ours]
        theirs: dict[bytes | str, bytes] = {f"bare:{id_}": BODY for id_ in ids}
        rates.take("bare set_many", RESULTS, partial(bare.set_many, theirs, expire=60, noreply=False))
        rates.take("store", RESULTS, partial(backend.store, ours, ttl=60))
        rates.take("bare get_many", RESULTS, partial(bare.get_many, list(theirs)))
        rates.take("fetch", RESULTS, partial(backend.fetch, ids))
        backend.forget(ids)
    backend.close()
    bare.close()
    rates.show({"store": "bare set_many", "fetch": "bare get_many"})


if __name__ == "__main__":
    main(sys.argv[1])
