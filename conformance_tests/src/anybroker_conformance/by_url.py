"""The test file of ``anybroker conform URL``: a suite for the URL that the command has put into the environment."""

import os

from anybroker_conformance.command import KIND, URL, suite_of

if URL in os.environ:
    _suite = suite_of(os.environ[URL], "backend" if os.environ[KIND] == "backend" else "broker")
    globals()[_suite.__name__] = _suite
