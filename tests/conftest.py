"""How many examples hypothesis draws, and which; and that Ctrl-C can be tested.

By default few, and the same ones each time. `FCNN_PROFILE=long` draws twenty times as many (`FCNN_EXAMPLES=50`: fifty
times), from a seed that is printed at the end; `--hypothesis-seed=SEED` draws the same ones again.
"""

import secrets
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from profiles import LONG

from fcnn.values.cores import at_most, one_blas_thread

# Shells let what they start in the background ignore it, and so would every script that the tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# No database and no deadline: whether a test passes depends on neither earlier runs nor the machine's speed.
# Networks are slow to draw at times, which is no fault of theirs.
common = settings(
    deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.register_profile("short", common, derandomize=True)
settings.register_profile("long", common, derandomize=False)
settings.load_profile("long" if LONG else "short")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """BLAS with one thread a call: as fast on cores that others use too."""
    with one_blas_thread(), at_most(1):
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if LONG and config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = secrets.randbelow(2**32)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if LONG:
        terminalreporter.write_line(f"FCNN_PROFILE=long --hypothesis-seed={config.getoption('hypothesis_seed')}")
