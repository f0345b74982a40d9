"""What is sent one at a time, beside a bare call of redis-py with a body of the same size, in short turns."""

from __future__ import annotations

import sys

import redis
from beside import Rates

from anybroker import App

ROUNDS = 60
CALLS = 300


def main(url: str) -> None:
    app = App(url)

    @app.task(name="bench.noop", results=False)
    def noop(total: int) -> None: ...

    noop.send(0)
    [message] = app.inspect().peek(noop.definition.queue)
    rates = Rates()
    with redis.Redis.from_url(url) as client:
        for _ in range(ROUNDS):
            rates.take("XADD", CALLS, lambda: [client.xadd("bare", {"body": message.body}) for _ in range(CALLS)])
            rates.take("SET", CALLS, lambda: [client.set(f"bare:{n}", message.body) for n in range(CALLS)])
            rates.take("send", CALLS, lambda: [noop.send(0) for _ in range(CALLS)])
            app.inspect().purge(noop.definition.queue)
            client.unlink("bare", *(f"bare:{n}" for n in range(CALLS)))
    rates.show({"send": "XADD"})
    print(f"{'':24} {'':12}  {rates.median('send') / rates.median('SET'):.0%} of SET")
    app.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
