"""How `fcnn.ops.sample_norm` sees a block: as (R, G, K, N), R rows of G groups of K numbers of each of N samples.

What is normalised together is a sample's group, over all rows, with K the channels of a group times the columns; or a
pixel's channels, where G is 1, K is C, and each of the W columns of a row has its own N.

Passes go through it as (R, G, K / run, run * N), in lines that are long enough however few the samples are. Sums are
products with ones, or with gamma: BLAS reads an array in half the time that NumPy takes for a pass. Those that make
means go along one axis after the other, which rounds as often as an axis is long.
"""

import functools
from collections.abc import Callable, Sequence

import attrs
import numpy as np

from fcnn.ops.layout import block, channel_rows, unblock
from fcnn.ops.parts import row_parts
from fcnn.values.arrays import Array, frozen

_LINE = 4096  # numbers of a line that NumPy goes through without a loss
_SUMMED = 256  # and BLAS, adding such lines up


@attrs.frozen
class View:
    """A block's shape so seen, and its rows in parts that stay in cache.

    `own` is whether each of a sample's numbers has a gamma and beta of its own, not each channel. A statistic is
    (1, G, 1, N), or (R, 1, 1, N) of pixels.
    """

    shape: tuple[int, int, int, int]  # R, G, K, N
    per_pixel: bool
    own: bool
    parts: list[slice]

    @classmethod
    def of(cls, memory: Array, gamma: Array, groups: int, per_pixel: bool) -> "View":
        """That of a block, with gamma and beta of gamma's shape."""
        rows = channel_rows(memory)
        height, channels, length = rows.shape
        columns = memory.shape[2] if memory.ndim == 4 and not per_pixel else 1
        shape = height, groups, channels // groups * columns, length // columns
        return cls(shape, per_pixel, gamma.ndim > 1, row_parts(rows))

    def wide(self, memory: Array) -> Array:
        """A block as passes go through it: (R, G, K / run, run * N)."""
        return self._lines(memory, _LINE)

    def _lines(self, memory: Array, least: int) -> Array:
        rows, groups, depth, samples = self.shape
        run = _run(depth, samples, least)
        if samples:  # else there is one part, of all rows
            rows = memory.size // (groups * depth * samples)
        return memory.reshape(rows, groups, depth // run, run * samples)

    def totals(self, part: Array) -> Array:
        """Of a part, the sums (1, G, 1, N) over a group's numbers, or (R, 1, 1, N) over a pixel's channels."""
        lines = self._lines(part, _SUMMED)
        sums = self._over_rows(np.matmul(np.ones((1, lines.shape[2]), part.dtype), lines))
        each = sums.reshape(*sums.shape[:2], _run(*self.shape[2:], _SUMMED), self.shape[3])
        return np.asarray(np.add.reduce(each, axis=2, keepdims=True))

    def _over_rows(self, sums: Array) -> Array:
        return sums if self.per_pixel else np.add.reduce(sums, axis=0, keepdims=True)

    def means(self, totals: Sequence[Array]) -> Array:
        """The statistic that the totals of all parts make."""
        rows, _, depth, _ = self.shape
        return np.concatenate(totals) / depth if self.per_pixel else np.add.reduce(totals) / (rows * depth)

    def everywhere(self, statistic: Array) -> Callable[[slice], Array]:
        """What gives a statistic for some rows, as an operand of a pass: (1 or R, G, 1, run * N)."""
        rows, groups, _, samples = statistic.shape
        run = _run(*self.shape[2:], _LINE)
        numbers = np.broadcast_to(statistic, (rows, groups, run, samples)).reshape(rows, groups, 1, run * samples)
        return lambda part: numbers[part] if self.per_pixel else numbers

    def weights(self, values: Array) -> Array:
        """A gamma or beta for each of a sample's numbers, (R, G, 1, K), or (1, G, 1, K) where it is the channel's."""
        _, groups, depth, _ = self.shape
        numbers = block(values[None]) if self.own else np.repeat(values, groups * depth // len(values))
        return numbers.reshape(-1, groups, 1, depth)

    def spread(self, weights: Array) -> Callable[[slice], Array]:
        """What gives weights for some rows, as an operand of a pass."""
        samples = self.shape[3]
        if self.own and samples != 1:  # by parts, as all together would be as large as the block
            return lambda part: self.wide(np.repeat(weights[part], samples))
        numbers = self.wide(weights if samples == 1 else np.repeat(weights, samples))
        return lambda part: numbers[part] if self.own else numbers

    def weighed(self, part: Array, weights: Array) -> tuple[Array, Array]:
        """Of each of a sample's numbers the sum over the samples, (R, G, K), and the `totals` of a part by weights."""
        numbers, samples = part.reshape(len(part), *self.shape[1:]), self.shape[3]
        # BLAS takes ten times as long as NumPy for lines of one number.
        sums = np.add.reduce(numbers, axis=3) if samples == 1 else np.matmul(numbers, np.ones(samples, part.dtype))
        return np.asarray(sums), self._over_rows(np.matmul(weights, numbers))

    def gradient(self, found: Sequence[Array], like: Array) -> Array:
        """The gradient of gamma or beta that sums (R, G, K) of the parts make."""
        whole = np.concatenate(found)
        if not self.own:
            return frozen(np.add.reduce(np.add.reduce(whole).reshape(len(like), -1), axis=1))
        return frozen(np.ascontiguousarray(unblock(whole.reshape(block(like[None]).shape))[0]))


@functools.lru_cache(maxsize=256)
def _run(depth: int, samples: int, line: int) -> int:
    """How many of each sample's numbers make a line: as few as divide them and make it long enough."""
    return next((run for run in range(-(-line // max(1, samples)), depth) if depth % run == 0), depth)
