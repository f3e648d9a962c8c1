"""Short slices are asked for where the kernel has them, and asking never fails; processes are bound to CPUs."""

import os
import subprocess
import sys

from shared.scheduling import bind, halves

SCRIPT = "from shared.scheduling import short_slices; import os; print(short_slices(), os.nice(0))"


def test_asking_keeps_the_priority() -> None:
    done = subprocess.run(
        ["nice", "-n", "3", sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[1] == str(min(os.nice(0) + 3, 19))


def test_timers_become_exact() -> None:
    script = (
        "from shared.scheduling import exact_timers as f; print(f(), open('/proc/self/timerslack_ns').read())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "1"]


def test_a_process_is_bound_to_half_of_the_cpus() -> None:
    first, second = halves()
    assert first | second == os.sched_getaffinity(0)
    assert not first & second or len(first | second) == 1
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        bind(child.pid, frozenset())
        assert os.sched_getaffinity(child.pid) == os.sched_getaffinity(0)
        bind(child.pid, second)
        assert os.sched_getaffinity(child.pid) == second
    finally:
        child.communicate(b"\n")
