"""What goes wrong on purpose: processes, forks, clocks, networks and servers. Each fault is confirmed to happen."""


class NotFired(AssertionError):
    """A fault that a test relies on did not happen, so that the test has proven nothing."""
