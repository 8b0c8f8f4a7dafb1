"""What Muon is made of: transforms that see each weight (out, …) as one matrix, (out, all the rest)."""

import math

import numpy as np

from fcnn.training.transform import Transform, Updated, stateless, transform_constructor
from fcnn.values import tree
from fcnn.values.arrays import Array, frozen, native
from fcnn.values.checks import integer, single
from fcnn.values.tree import EMPTY, Tree

_A, _B, _C = 3.4445, -4.7750, 2.0315  # steepest at 0 of those that end between 0.7 and 1.2 or so


@transform_constructor
def orthogonalize(steps: int = 5, eps: float = 1e-7) -> Transform:
    """Updates whose singular values are all near 1: K. Jordan et al., "Muon", kellerjordan.github.io/posts/muon, 2024.

    Of each update G, seen as a matrix (out, all the rest), X = G / (|G| + eps) with the Frobenius norm, and then so
    many Newton-Schulz steps, each of which takes every singular value s to a s + b s³ + c s⁵:

        X = a X + (b A + c A A) X        with A = X Xᵀ and (a, b, c) = (3.4445, -4.7750, 2.0315)

    (transposed where the matrix is tall, as A is smaller then). Five steps bring all that aren't tiny to between 0.7
    and 1.2.

    `init` raises ValueError for a parameter of one axis or none, such as a bias, which is no matrix.

    >>> params = tree.freeze({"w": np.array([[3.0, 0.0], [0.0, -4.0]])})
    >>> orthogonalize().update(params, EMPTY, params, 0).updates["w"].round(1)
    array([[ 0.7,  0. ], [ 0. , -1.1]])
    """
    steps = integer("steps", steps, least=1)
    eps = single("eps", eps, "(0, inf)")

    def one(update: Array) -> Array:
        if not update.size:
            return update
        # In one order of memory and bytes, so that the bits don't depend on the update's.
        x = np.ascontiguousarray(native(update)).reshape(len(update), -1)
        x = x / (_norm(x) + eps)
        is_tall = len(x) > x.shape[1]
        x = x.T if is_tall else x
        for _ in range(steps):
            squared = x @ x.T
            x = _A * x + (_B * squared + _C * squared @ squared) @ x
        return frozen(np.ascontiguousarray(x.T if is_tall else x).reshape(update.shape))

    def init(params: Tree) -> Tree:
        _expect_matrices("orthogonalize", params)
        return EMPTY

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
        return Updated(tree.map(one, updates), EMPTY)

    return Transform("orthogonalize", init, update)


@transform_constructor
def rescale_weights() -> Transform:
    """Give each weight (out, …) the norm sqrt(out) before the updates are added, as if it had always had it.

        update = update + (sqrt(out) / |p| - 1) p

    It is the last of a chain. What comes after a weight without bias, batch norm, sees no difference, but its gradient
    goes with 1 / |p|, so that a norm which grows would slow learning down. A weight of zeros stays as it is.
    """

    def one(update: Array, p: Array) -> Array:
        norm = _norm(p)
        return frozen(update + (math.sqrt(len(p)) / norm - 1) * p) if norm else update

    def init(params: Tree) -> Tree:
        _expect_matrices("rescale_weights", params)
        return stateless(params)

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
        return Updated(tree.map(one, updates, params), EMPTY)

    return Transform("rescale_weights", init, update)


def _norm(x: Array) -> float:
    """The root of the sum of all squares, which float64 holds for any of float32."""
    return math.sqrt(float(np.square(x, dtype=np.float64).sum()))


def _expect_matrices(name: str, params: Tree) -> None:
    for path, leaf in tree.leaves(params):
        if leaf.ndim < 2:
            raise ValueError(
                f"{name} takes weights of two axes or more, (out, …), got {path} of shape {leaf.shape}; "
                "fcnn.by_path gives it another optimizer"
            )
