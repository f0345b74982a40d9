"""The real services that adapters are tested against, as local processes or containers.

``python -m anybroker_conformance.services up`` starts them, and `running` gives them to tests.
"""

from anybroker_conformance.services.engine import ServiceError
from anybroker_conformance.services.running import Running, running

__all__ = ["Running", "ServiceError", "running"]
