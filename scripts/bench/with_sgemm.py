"""The floor under everything that multiplies matrices: the rate of BLAS's float32 product on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from threadpoolctl import threadpool_limits

from bench.cases import Sgemm
from bench.programs import Inputs, Makers, Prepared
from fcnn import parallel


@contextmanager
def opened(threads: int, form: str = "") -> Iterator[Makers]:
    """As many products as threads; the check is their floating-point operations."""

    def sgemm(case: Sgemm, inputs: Inputs) -> Prepared:
        a, b = np.random.default_rng(0).standard_normal((2, case.size, case.size), np.float32)
        outs = [np.empty_like(a) for _ in range(threads)]

        def on_blas_threads() -> None:
            with threadpool_limits(threads, user_api="blas"):
                for out in outs:
                    np.matmul(a, b, out=out)

        def on_python_threads() -> None:
            with parallel.threads(threads) as map_fn:
                list(map_fn(lambda out: np.matmul(a, b, out=out), outs))

        calls = dict(zip(case.parts, (on_blas_threads, on_python_threads), strict=True))
        return Prepared(calls, lambda: np.array([2.0 * case.size**3 * threads]))

    yield {Sgemm: sgemm}
