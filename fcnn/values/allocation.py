"""What importing fcnn does to the process's memory, and nothing else does: freed memory is kept.

glibc hands the memory of big arrays back to the system when they are freed, and the next ones fault it in again page by
page, which can take half of a training step. From how big an array on it does so, it learns from the biggest that was
freed, up to 32 MB; so freeing one of 31 MB makes it keep what smaller ones leave. That one is never touched, so it
takes no memory. Other C libraries don't mind.
"""

import numpy as np


def keep_freed_memory() -> None:
    """Make glibc's allocator keep the memory of freed arrays, of up to 31 MB each, for the next ones."""
    np.empty(31 << 20, np.uint8)
