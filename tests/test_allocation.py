"""What importing fcnn does to the process's memory."""

import platform
import subprocess
import sys

import pytest

# Six arrays of 4 MB, made and freed again and again, as in a training step; how many pages had to be faulted in.
CODE = """
import resource
import numpy as np
{imports}
def step():
    arrays = [np.ones(1 << 20, np.float32) for _ in range(6)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(imports: str) -> int:
    done = subprocess.run([sys.executable, "-c", CODE.format(imports=imports)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator gives memory back like this")
def test_freed_memory_is_kept_once_fcnn_is_imported():
    with_fcnn, without = page_faults("import fcnn"), page_faults("")
    assert with_fcnn < 1000
    assert with_fcnn < without / 3
