"""``python -m anybroker_conformance.ledger``."""

from anybroker_conformance.ledger.runner import main

if __name__ == "__main__":
    raise SystemExit(main())
