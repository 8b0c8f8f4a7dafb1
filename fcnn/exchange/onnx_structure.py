"""A graph as what combinators can be made of: chains of nodes, and splits, whose ways meet again in one node.

Such graphs are called series-parallel. The value from which the ways to a node go is its immediate dominator: the last
one that lies on all of them (T. Lengauer and R. Tarjan, ACM TOPLAS 1 (1979), 121; here nodes come in order, so one pass
finds it).
"""

import functools
from collections.abc import Mapping
from typing import TypeAlias

import attrs

from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.onnx_constants import Constants
from fcnn.exchange.onnx_graph import Graph, Node
from fcnn.network.layer import MOST_DEPTH
from fcnn.values.text import printable

Way: TypeAlias = "tuple[Node | Split, ...]"


@attrs.frozen
class Split:
    """Ways from one value to a node that takes what each gives, in the order of its inputs; one may be empty."""

    merge: Node
    ways: tuple[Way, ...]


def structure(graph: Graph, constants: Constants) -> Way:
    """The way from the graph's input to its output.

    Raises ExchangeError, with the node at which it stops being one, for another graph.
    """
    return _Structure.of(_one_by_one(graph), constants).way(graph.input, graph.output)


def _one_by_one(graph: Graph) -> Graph:
    """The graph in which what is put beside all that another node puts together is put beside what that gives.

    So each layer of a dense block takes one value (G. Huang et al., CVPR 2017, arXiv 1608.06993).
    """
    given: dict[tuple[object, ...], str] = {}
    nodes = []
    for node in graph.nodes:
        found = node
        if node.operator == "Concat" and node.outputs:
            axis = node.attributes.get("axis")
            before = given.get((axis, *node.inputs[:-1]))
            if before is not None:
                found = attrs.evolve(node, inputs=(before, node.inputs[-1]))
            given.setdefault((axis, *node.inputs), node.outputs[0])
        nodes.append(found)
    return attrs.evolve(graph, nodes=tuple(nodes))


class _Tree:
    """Values, each below one that is there, and where the ways up from two of them meet: in a few steps at any depth.

    Each has besides the one above it another far above, so that twice as many steps are skipped the further one goes
    (E. W. Myers, Information Processing Letters 17 (1983), 241).
    """

    def __init__(self, root: str) -> None:
        self.above, self._far, self._depth = {root: root}, {root: root}, {root: 0}

    def add(self, value: str, above: str) -> None:
        far, depth = self._far, self._depth
        middle = far[above]
        are_equal = depth[above] - depth[middle] == depth[middle] - depth[far[middle]]
        self.above[value], far[value] = above, far[middle] if are_equal else above
        depth[value] = depth[above] + 1

    def meet(self, one: str, other: str) -> str:
        above, far, depth = self.above, self._far, self._depth
        if depth[one] < depth[other]:
            one, other = other, one
        while depth[one] > depth[other]:
            one = far[one] if depth[far[one]] >= depth[other] else above[one]
        while one != other:  # of one depth, so what is far above them is, too
            one, other = (far[one], far[other]) if far[one] != far[other] else (above[one], above[other])
        return one


@attrs.frozen
class _Structure:
    inputs: Mapping[str, list[str]]  # of the node that makes a value: what flows into it
    nodes: Mapping[str, Node]  # by the value that it makes
    last: Mapping[str, str]  # for a value: the last one that all ways to it pass before
    _passed: set[str] = attrs.field(factory=set)

    @classmethod
    def of(cls, graph: Graph, constants: Constants) -> "_Structure":
        known = {graph.input, *graph.tensors}
        nodes: dict[str, Node] = {}
        for node in graph.nodes:
            for name in node.inputs:
                if name and name not in known:
                    raise ExchangeError(f"{node} takes {_quoted(name)}, which nothing before it gives")
            for name in node.outputs:
                if name and name in known:
                    raise ExchangeError(f"{node} gives {_quoted(name)}, which there is already")
                if name:
                    known.add(name)
                    nodes[name] = node
        if graph.output not in known or graph.output in constants.fixed or graph.output in constants.sizes:
            raise ExchangeError(f"its output {_quoted(graph.output)} isn't computed of its input")
        inputs = _leading_to(graph.output, graph.input, nodes, constants)
        tree = _Tree(graph.input)
        for node in graph.nodes:
            value = node.outputs[0] if node.outputs else ""
            if value in inputs:
                tree.add(value, functools.reduce(tree.meet, inputs[value]))
        return cls(inputs, nodes, tree.above)

    def way(self, begin: str, end: str, depth: int = 0) -> Way:
        """From one value to another, before which all ways to it pass."""
        if depth > MOST_DEPTH:
            raise ExchangeError(f"{self.nodes[end]}: more than {MOST_DEPTH} splits one within the other")
        items: list[Node | Split] = []
        while end != begin:
            node, inputs = self.nodes[end], self.inputs[end]
            if end in self._passed:
                raise ExchangeError(
                    f"what {node} gives is taken on several ways that don't meet in one node; read are graphs that are "
                    "chains, and ways from one value that meet in one node (residuals, branches)"
                )
            self._passed.add(end)
            begun = self.last[end]
            if len(inputs) > 1:
                items.append(Split(node, tuple(self.way(begun, one, depth + 1) for one in inputs)))
            else:
                items.append(node)
            end = begun
        return tuple(reversed(items))


def _leading_to(output: str, begin: str, nodes: Mapping[str, Node], constants: Constants) -> dict[str, list[str]]:
    """The values on the way to the output, with what flows into each one's node."""
    found: dict[str, list[str]] = {}
    asked = [output]
    while asked:
        value = asked.pop()
        if value in found or value == begin:
            continue
        node = nodes[value]
        if value != node.outputs[0]:
            raise ExchangeError(f"{node}: its output {_quoted(value)} is used, and no layer has a second output")
        found[value] = constants.flowing(node)
        if not found[value]:
            raise ExchangeError(f"{node} takes nothing that is computed of the input, and is no constant that is known")
        asked += found[value]
    return found


def _quoted(name: str) -> str:
    return repr(printable(name, 60))
