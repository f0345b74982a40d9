"""Real SQS servers for the tests, started once and left running for the next run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from anybroker_conformance.services import running
from anybroker_conformance.services.door import Door
from anybroker_conformance.services.state import State

if TYPE_CHECKING:
    from anybroker_conformance.services import Running
