"""Real worker processes on a MongoDB server, with results in MongoDB or in memcached; they run tests/core/crash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anybroker import App
from tests.core.crash.conftest import Site

if TYPE_CHECKING:
    from pathlib import Path


class MongoSite(Site):
    """A site whose tasks are in MongoDB."""

    def __init__(self, directory: Path, url: str, *, results_url: str | None = None, **settings: object) -> None:
        super().__init__(directory, **settings)
        self.app.close()
        self.url = url
        self.app = App(url, results_url=results_url)
        self._environment["ANYBROKER_URL"] = url
        if results_url is not None:
            self._environment["ANYBROKER_RESULTS_URL"] = results_url
