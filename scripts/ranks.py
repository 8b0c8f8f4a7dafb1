"""The processes that train together: one, or the several that `mpiexec -n N python scripts/train.py … --mpi` starts.

All ranks run the same script and go the same way; rank 0 alone decides, prints and writes. What stops one is either
agreed, and raised on all of them as `Stop`, or its own trouble, and ends the job.
"""

import contextlib
import hashlib
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import attrs
import numpy as np
from console import Stop

import fcnn
from fcnn import parallel
from fcnn.training.step import GradientFn

T = TypeVar("T")

# What may go wrong in the world outside; anything else is an error in the program.
TROUBLE = (
    fcnn.data.DataError,
    fcnn.CheckpointError,
    parallel.RankError,
    parallel.WorkerError,
    ModuleNotFoundError,
    ValueError,
    OSError,
)


class Alone:
    """The communicator of a run without MPI."""

    rank, size = 0, 1

    def bcast(self, value: T, root: int = 0) -> T:
        """The value, on all ranks."""
        return value


@attrs.frozen
class Ranks:
    """The ranks of a communicator. Every method is called by all of them, `fail` aside."""

    comm: Any = attrs.field(factory=Alone)
    timeout: float = math.inf  # seconds that they wait for one another
    way_on: Callable[[], str] = lambda: ""  # what else to say when trouble has ended the run

    @property
    def size(self) -> int:
        """How many they are."""
        return int(self.comm.size)

    @property
    def first(self) -> bool:
        """Whether this is the rank that decides, prints and writes."""
        return bool(self.comm.rank == 0)

    def all_do(self, action: Callable[..., T], *arguments: Any) -> T:
        """What `action` gives on this rank; if any rank has trouble with it, all stop with the first one's message."""
        trouble = np.zeros(self.size, np.int64)
        result, message = None, ""
        try:
            result = action(*arguments)
        except (Stop, *TROUBLE) as error:
            message = self.explain(error)
            trouble[self.comm.rank] = 1
        failed = np.flatnonzero(self._sum(trouble))
        if len(failed):
            raise Stop(self.comm.bcast(message, root=int(failed[0])))
        return result  # type: ignore[return-value]

    def first_does(self, action: Callable[..., T], *arguments: Any) -> T | None:
        """What `action` gives on rank 0, and None on the others, which wait for it."""
        return self.all_do(lambda: action(*arguments) if self.first else None)

    def first_decides(self, action: Callable[..., T], *arguments: Any) -> T:
        """What `action` gives on rank 0, on every rank."""
        return self.comm.bcast(self.first_does(action, *arguments))  # type: ignore[no-any-return]

    def greatest(self, value: int) -> int:
        """The greatest of all ranks' values, each at least 0."""
        values = np.zeros(self.size, np.int64)
        values[self.comm.rank] = value
        return int(self._sum(values).max())

    def gradient(self, gradient_fn: GradientFn) -> GradientFn:
        """The gradient of the whole batch, each rank computing its share."""
        return parallel.over_ranks(gradient_fn, self.comm, timeout=self.timeout) if self.size > 1 else gradient_fn

    def check_equal(self, params: fcnn.Tree, step: int) -> None:
        """Stop unless the parameters have the same bits on all ranks."""
        digest = hashlib.sha256(fcnn.tree.ravel(params).tobytes()).digest()
        digests = np.zeros((self.size, len(digest)), np.uint8)
        digests[self.comm.rank] = np.frombuffer(digest, np.uint8)
        found = self._sum(digests)
        different = np.flatnonzero((found != found[0]).any(axis=1))
        if len(different):
            raise Stop(
                f"error: after step {step} the parameters of rank {different[0]} have other bits than those of rank 0; "
                "do all ranks run the same versions, on processors of one kind? The last checkpoint is good"
            )

    def cores(self) -> int:
        """The cores that are this rank's own: those of its node over the ranks there, at least 1."""
        here = 1
        if self.size > 1:
            from mpi4py import MPI

            node = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
            here = node.size
            node.Free()
        return max(1, (os.cpu_count() or 1) // here)

    def fail(self, message: str, code: int = 1) -> int:
        """Say what this rank's own trouble is and end the whole job; without others, the exit code."""
        if self.size == 1:
            print(f"\n{message}", file=sys.stderr)
        else:
            end_job(self.comm, f"\nrank {self.comm.rank}: {message}", code)
        return code

    def explain(self, error: BaseException) -> str:
        """What the user reads of a Stop or of trouble."""
        if isinstance(error, Stop):
            return str(error)
        outside = isinstance(error, (OSError, parallel.WorkerError))
        return f"error: {error}{self.way_on() if outside else ''}"

    def _sum(self, values: Any) -> Any:
        return parallel.sum_over_ranks(values, self.comm, timeout=self.timeout) if self.size > 1 else values


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks of this MPI job. All but the first are silent, and an error that nobody expected ends all of them."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # a RuntimeError where there is no MPI library
        sys.exit(f"\nerror: --mpi needs mpi4py and an MPI library ({error}); install both: pip install mpi4py mpich")
    comm = MPI.COMM_WORLD
    with contextlib.ExitStack() as stack:
        if comm.rank:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        try:
            yield Ranks(comm)
        except Exception:
            if comm.size == 1:
                raise
            end_job(comm, traceback.format_exc(), 1)


def end_job(comm: Any, message: str, code: int) -> None:
    """Say why, and end all ranks."""
    print(message, file=sys.__stderr__, flush=True)
    time.sleep(0.5)  # mpiexec hands the message on, and would drop it when it ends
    comm.Abort(code)
