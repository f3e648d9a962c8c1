"""How the kernel runs us: a pipeline of processes on few cores waits for each other's time slices more than for work.

Linux 6.12 and newer let a process of the normal class ask for its own slice (sched(7), `sched_runtime`); shorter slices
are given sooner. At 500 k records a second on two cores this took a millisecond off the p99 (in the prototype:
6.1 to 5.06 ms). Elsewhere it does nothing.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

SLICE_NS = 100_000  # the least the kernel takes
MMAP_BYTES = (
    32 * 1024 * 1024
)  # arrays from so many bytes on are given back when they are freed (the most glibc takes)
TRIM_BYTES = 128 * 1024 * 1024  # so much free memory is kept
_PR_SET_TIMERSLACK = 29
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
# struct sched_attr: size, policy (0 is normal), flags, nice, priority, runtime, deadline, period
_ATTRIBUTES = struct.Struct("IIQiIQQQ")

_libc = ctypes.CDLL(None, use_errno=True)


def short_slices() -> bool:
    """Give this process (and what it starts) short slices; False where the kernel does not take it."""
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None:
        return False
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, 0, 0, os.nice(0), 0, SLICE_NS, 0, 0)
    return bool(_libc.syscall(number, 0, attributes, 0) == 0)


def exact_timers() -> bool:
    """End sleeps of this thread (and those it starts) on time, not up to 50 µs later; False where there is no prctl."""
    return bool(_libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0) == 0) if hasattr(_libc, "prctl") else False


def keep_memory() -> None:
    """Keep freed memory for the next batch: else glibc gives each array of 128 KB back, and its pages fault in again.

    At full tilt this halved the CPU time of ingest. Elsewhere than on glibc it does nothing.
    """
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES)
        _libc.mallopt(_M_TRIM_THRESHOLD, TRIM_BYTES)


def halves() -> tuple[frozenset[int], frozenset[int]]:
    """The CPUs this process may use, in two parts; both are all of them where there is only one."""
    cpus = sorted(os.sched_getaffinity(0))
    middle = (len(cpus) + 1) // 2
    return frozenset(cpus[:middle]), frozenset(cpus[middle:] or cpus)


def bind(pid: int, cpus: frozenset[int]) -> None:
    """Let a process that has just begun, and what it starts, run on these CPUs only; no CPUs: leaves it as it is."""
    if cpus:
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), cpus)
