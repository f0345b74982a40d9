"""``python -m anybroker`` is ``anybroker``."""

from anybroker.cli import main

if __name__ == "__main__":
    main()
