"""Types that several threads meet for the first time at the same moment."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import threading

import msgspec

from anybroker.values import check_type, decode_value

sys.setswitchinterval(1e-6)
for _ in range(500):

    class Inner(msgspec.Struct):
        x: "int"

    class Outer(msgspec.Struct):
        inner: Inner
        y: "int"

    start = threading.Barrier(4)

    def first_use():
        start.wait()
        check_type(Outer, "here")
        assert decode_value(msgspec.Raw(b'{"inner": {"x": 1}, "y": 2}'), Outer, "json") == Outer(Inner(1), 2)

    threads = [threading.Thread(target=first_use) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
print("alive")
"""


@pytest.mark.slow
def test_a_type_is_learnt_by_one_thread_at_a_time() -> None:
    """Else msgspec 0.22 ends the process by SIGSEGV: a thread decodes by a struct that another has half learnt."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
