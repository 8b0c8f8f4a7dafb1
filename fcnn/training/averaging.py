"""Averages of a network's values over the steps of its training, as functions from steps to steps.

An average is of all that the network holds: parameters, and batch norm's running statistics too, which are those of the
very network that they belong to. So it is no part of an optimizer, which sees parameters alone, but goes around the
step. Its copy of the values lies in the training state, in `opt_state` under the averaging's name: there checkpoints
keep it, and a run that goes on has the bits of one that never stopped.
"""

from collections.abc import Callable
from typing import Any, ParamSpec

import attrs

from fcnn.training.schedules import Rate, as_schedule, rate_at
from fcnn.training.step import Record, Step, TrainState
from fcnn.values import tree
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import function, instance, integer, number
from fcnn.values.configuration import Config, as_call, constructor
from fcnn.values.tree import EMPTY, Tree, freeze

P = ParamSpec("P")


@attrs.frozen(repr=False, eq=False)
class Averaging:
    """How a network's values E are averaged while its own, p, learn; `lookahead` and `moving_average` make one.

    Every so many steps E = E + (1 - d) (p - E), where d is `decay_of` the steps that were made; with `goes_on_from_it`
    then also p = E.

    >>> import numpy as np
    >>> from fcnn import dense, fold, init_state, key, mean_squared_error, sgd, train_step
    >>> model, average = dense(1), lookahead(0.5, every=2)
    >>> start = average.begin(init_state(model, sgd(0.1), key(0), (3,)))
    >>> step = average.step(train_step(model, mean_squared_error(), sgd(0.1)))
    >>> final, records = fold(step, start, [(np.ones((4, 3), np.float32), np.zeros((4, 1)))] * 7)
    >>> average.averaged(final).params == final.params         # six steps were averaged, and one was made since
    False
    """

    name: str
    every: int
    decay_of: Callable[[int], float]
    goes_on_from_it: bool
    _text: str = ""
    _remade: Any = None

    def __repr__(self) -> str:
        return self._text or f"{self.name}()"

    def __reduce__(self) -> tuple[Any, ...]:
        # `decay_of` may be a closure, which doesn't pickle; what made it does.
        made: tuple[Any, ...] | None = self._remade
        return made or (Averaging, (self.name, self.every, self.decay_of, self.goes_on_from_it))

    def __copy__(self) -> "Averaging":
        return self

    def __deepcopy__(self, memo: object) -> "Averaging":
        return self

    def begin(self, state: TrainState) -> TrainState:
        """The training state in which the averages are the network's values as they are.

        Raises ValueError if it holds such averages already.
        """
        _expect_state(state)
        if self.name in state.opt_state:
            raise ValueError(f"the state holds averages of {self.name} already; go on with it as it is")
        return self._with(state, state.opt_state, _values(state))

    def step(self, step: Step) -> Step:
        """The step, and what is averaged after it: a pure function of a state that `begin` made, or that it gave."""
        function("step", step, "a function (state, batch), such as fcnn.train_step(…) gives")

        def averaging(state: TrainState, batch: Any) -> tuple[TrainState, Record]:
            averages = self._averages(state)
            others = freeze({name: part for name, part in state.opt_state.items() if name != self.name})
            after, record = step(attrs.evolve(state, opt_state=others), batch)
            if after.step % self.every == 0:
                decay = self.decay_of(after.step)
                averages = tree.map_elementwise(lambda e, p: _between(e, p, decay), averages, _values(after))
                if self.goes_on_from_it:
                    after = _with_values(after, averages)
            return self._with(after, after.opt_state, averages), record

        return averaging

    def averaged(self, state: TrainState) -> TrainState:
        """The training state with the averages as its parameters and its layers' state."""
        return _with_values(state, self._averages(state))

    def _averages(self, state: TrainState) -> Tree:
        found = _expect_state(state).opt_state.get(self.name)
        if type(found) is not Tree:
            raise ValueError(f"the state holds no averages of {self.name}; the averaging's begin(state) makes such")
        return found

    def _with(self, state: TrainState, opt_state: Tree, averages: Tree) -> TrainState:
        return attrs.evolve(state, opt_state=freeze({**opt_state, self.name: averages}))


def expect_averaging(name: str, value: object) -> Averaging:
    """`value`, if it says how to average."""
    return instance(name, value, Averaging, "an averaging, such as fcnn.moving_average(0.999) gives")


def begun(averaging: Averaging | None, state: TrainState) -> TrainState:
    """The training state as an averaging begins with it, if there is one."""
    return state if averaging is None else averaging.begin(state)


def averaged_values(averaging: Averaging | None, state: TrainState) -> tuple[Tree, Tree]:
    """The parameters and the layers' state: the averages, if there are such."""
    state = state if averaging is None else averaging.averaged(state)
    return state.params, state.layer_state


def _averaging(body: Callable[P, Averaging]) -> Callable[P, Averaging]:
    """A function called as `body` is; what it gives prints as the call that made it, and pickles."""

    def record(kind: str, config: Config, make: Callable[P, Averaging], averaging: Averaging) -> Averaging:
        return attrs.evolve(averaging, text=as_call(kind, config), remade=config.remaking(make))

    return constructor(body, record)


@_averaging
def lookahead(decay: Rate = 0.5, *, every: int = 5) -> Averaging:
    """Every few steps the averages go some way to the network's values, and the network goes on from the averages.

    "k steps forward, 1 step back" (M. Zhang et al., NeurIPS 2019, arXiv 1907.08610, algorithm 1, whose alpha is
    1 - decay). What is evaluated in the end are the averages.

    Args:
        decay: d, the share of the averages that stays, 0 to 1; a float, or a schedule of how many steps were made.
        every: how many steps lie between two averages.

    >>> lookahead(0.5)
    lookahead()
    """
    return Averaging("lookahead", integer("every", every, least=1), _decay_of(decay), goes_on_from_it=True)


@_averaging
def moving_average(decay: Rate = 0.999, *, every: int = 1) -> Averaging:
    """The moving average of the network's values beside it, of which the network itself knows nothing.

    At the k-th time d = min(decay, (k - 1) / k): so the average is the plain mean of all values so far (B. Polyak and
    A. Juditsky, SIAM J. Control Optim. 30, 1992) until they are many, and then forgets the old ones. With a decay of 1
    it never does: once an epoch, that is stochastic weight averaging (P. Izmailov et al., UAI 2018, arXiv 1803.05407),
    but that batch norm's statistics are averaged, not found anew.

    Args:
        decay: of the averages, 0 to 1: they are of about the last 1 / (1 - decay) times. A float, or a schedule of how
            many steps were made.
        every: how many steps lie between two averages.

    >>> moving_average(0.99, every=10)
    moving_average(decay=0.99, every=10)
    """
    most, count = _decay_of(decay), integer("every", every, least=1)

    def decay_of(steps: int) -> float:
        times = steps // count
        return min(most(steps), (times - 1) / times)

    return Averaging("moving_average", count, decay_of, goes_on_from_it=False)


def _decay_of(decay: Rate) -> Callable[[int], float]:
    schedule = as_schedule("decay", decay if callable(decay) else number("decay", decay, "[0, 1]"))

    def decay_of(steps: int) -> float:
        return number(f"the decay after {steps} steps", rate_at(schedule, steps), "[0, 1]")

    return decay_of


def _between(average: Array, value: Array, decay: float) -> Array:
    """Some way from the average to the value; of what are no floats, such as counts, the value itself."""
    return value if not decay or value.dtype.kind != "f" else frozen(average + (1 - decay) * (value - average))


def _values(state: TrainState) -> Tree:
    """All that the network holds; without an empty part, of which a file keeps nothing."""
    return freeze({n: v for n, v in (("params", state.params), ("state", state.layer_state)) if v})


def _with_values(state: TrainState, values: Tree) -> TrainState:
    return attrs.evolve(state, params=values.get("params", EMPTY), layer_state=values.get("state", EMPTY))


def _expect_state(state: TrainState) -> TrainState:
    return instance("state", state, TrainState, "a training state, as fcnn.init_state makes")
