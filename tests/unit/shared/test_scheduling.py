"""Short slices are asked for where the kernel has them, and asking never fails."""

import os
import subprocess
import sys

SCRIPT = "from shared.scheduling import short_slices; import os; print(short_slices(), os.nice(0))"


def test_asking_keeps_the_priority() -> None:
    done = subprocess.run(
        ["nice", "-n", "3", sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[1] == str(min(os.nice(0) + 3, 19))
