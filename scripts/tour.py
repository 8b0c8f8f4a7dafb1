"""A tour of one training step: every number of it, forwards and backwards, beside its formula and checked.

    python scripts/tour.py                    # or with --seed 8 --steps 20 --lr 0.05

The image of a digit goes through a network of three layers with weights, the gradient of its loss comes back, and the
weights take steps downhill. The numbers are fcnn's own, in float64, and rounded only where they are printed. Every
gradient is compared with central differences, (L(value + h) - L(value - h)) / 2h; the exit code is 1 if one is wrong.
"""

import stopping

stopping.at_once(__name__)  # before the other imports, which take a second

import argparse
import sys
import textwrap

import numpy as np
from console import program
from options import number, whole

import fcnn
from fcnn.values.arrays import Array

NUMBERS = np.vectorize("{:z7.3f}".format)  # as they are printed
FORMULAS = """
A TOUR OF ONE TRAINING STEP. What is computed, in this order, by its formula, shape and name:

  x                                (1, 6, 6)  the image: channels, rows, columns; 0 black, 1 white
  t                                           its label, the digit that it shows
  a[f,i,j] = b1[f] + the sum over  (2, 4, 4)  convolution: filter f is laid on each 3x3 window of x;
    u, v of w1[f,0,u,v] x[0,i+u,j+v]            weights w1 (2, 1, 3, 3), biases b1 (2,)
  r = max(a, 0)                    (2, 4, 4)  ReLU
  m[f,i,j] = greatest in a window  (2, 2, 2)  max pool over the 2x2 windows of r, side by side
  q = m in one row                 (8,)       flatten
  h = w2 q + b2                    (4,)       dense layer: weights w2 (4, 8), biases b2 (4,)
  s = max(h, 0)                    (4,)       ReLU
  z = w3 s + b3                    (10,)      dense layer: weights w3 (10, 4), biases b3 (10,)
  p = exp(z) / the sum of exp(z)   (10,)      softmax: probabilities, which add up to 1
  L = -log p[t]                               cross-entropy, the loss: 0 if p[t] is 1"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw, allow_abbrev=False)
    parser.add_argument("--seed", type=whole(0), default=42, help="draws the digit and the weights (default 42)")
    parser.add_argument("--steps", type=whole(1), default=8, help="of gradient descent (default 8)")
    parser.add_argument("--lr", type=number, default=0.1, help="learning rate, how far a step goes (default 0.1)")
    options = parser.parse_args(argv)
    tour = Tour(options.seed, fcnn.sgd(options.lr))
    tour.forward()
    tour.backward()
    tour.downhill(options.lr, options.steps)
    show(f"{tour.checked} numbers were checked, {tour.wrong or 'none'} of them wrong.")
    if tour.wrong:
        print(f"error: {tour.wrong} of {tour.checked} numbers are wrong, where it says WRONG", file=sys.stderr)
    return 1 if tour.wrong else 0


class Tour:
    """An image, a network, what both passes compute by the path of layers and weights, and what was checked so far."""

    def __init__(self, seed: int, optimizer: fcnn.Transform) -> None:
        key, b = fcnn.key(seed), fcnn.constant(0.1)
        digit = fcnn.data.make_digits(fcnn.fold_in(key, "image"), 1)
        image = fcnn.ops.avg_pool2d(digit.x[:, :, 2:26, 2:26] / 255.0, 4)[0]  # the mean of each 4x4 pixels
        self.batch = fcnn.Batch(image, digit.y)  # layers take batches, here of one: (1, 1, 6, 6) and (1,)
        self.network = fcnn.serial(
            conv=fcnn.conv2d(2, 3, biases=b), relu1=fcnn.relu(), pool=fcnn.max_pool2d(2), flatten=fcnn.flatten(),
            fc1=fcnn.dense(4, biases=b), relu2=fcnn.relu(), fc2=fcnn.dense(10, biases=b),
        )  # fmt: skip
        self.loss = fcnn.softmax_cross_entropy()
        self.start = fcnn.init_state(self.network, optimizer, fcnn.fold_in(key, "network"), (1, 6, 6), np.float64)
        self.step = fcnn.train_step(self.network, self.loss, optimizer)
        self.weights, start = fcnn.tree.flatten(self.start.params), (self.start.params, self.start.layer_state)
        found = fcnn.trace(self.network, *start, image, dy=lambda z: self.loss(z, digit.y)[1], train=True)
        self.values = {"x": image[0]} | {path: y[0] for path, y in found.outputs.items()} | self.weights
        slopes = {path: dy[0] for path, dy in found.gradients.items()}
        self.slopes = {"x": found.dx[0]} | slopes | fcnn.tree.flatten(found.grads)
        self.checked = self.wrong = 0

    def forward(self) -> None:
        """From the image to the loss."""
        x, a, r, m, q, h, s, z = (self.values[path] for path in ("x", *self.network.children))
        w1, b1, w2, b2 = (self.weights[path] for path in ("conv/w", "conv/b", "fc1/w", "fc1/b"))
        t, p = int(self.batch.y[0]), fcnn.ops.softmax(z[None])[0][0]
        print(FORMULAS)
        show("FORWARD, FROM THE IMAGE TO THE LOSS")
        show(f"x, an image of the digit t = {t}:", x)
        show("w1, two filters. All weights begin at random; all biases, b1 to b3, at 0.1.", w1)
        f, i, j = (int(k) for k in np.unravel_index(a.argmax(), a.shape))
        window = x[0, i : i + 3, j : j + 3]
        show(f"One place of the convolution, a[{f},{i},{j}]: the 3x3 window of x from row {i}, column {j} on, times "
             f"filter {f}, gives nine products.", window, " x ", w1[f, 0], " = ", window * w1[f, 0])  # fmt: skip
        self.by_hand(f"their sum + b1[{f}]", (window * w1[f, 0]).sum() + b1[f], a[f, i, j])
        show("a, the same at every place, for either filter:", a)
        won = fcnn.ops.max_pool2d_backward(np.ones((1, *m.shape)), fcnn.ops.max_pool2d(r[None], 2)[1])[0]
        starred = np.char.add(NUMBERS(r), np.where(won, "*", " "))
        show("r = max(a, 0), with a star at the greatest number of each 2x2 window:", starred)
        show("m, those with stars. Of the others nothing goes on:", m)
        show("q, the same in one row, and w2 below it:", q)
        show("", w2)
        show("h = w2 q + b2: at [j] the sum of the products of row j of w2 and q, and b2[j].", h)
        self.by_hand("w2[0] q + b2[0]", (w2[0] * q).sum() + b2[0], h[0])
        dead = "" if s.any() else " All are 0, so no gradient will come through here; try another --seed."
        show(f"s = max(h, 0):{dead}", s)
        show("z = w3 s + b3, a logit, or score, for each of the digits 0 to 9:", z)
        show(f"p = exp(z) / the sum of exp(z). With random weights it is a guess, here {p.argmax()}:", p)
        show(f"L = -log p[{t}], with p[{t}] = {p[t]:.7f}:")
        self.by_hand("L", -np.log(p[t]), self.loss(z[None], self.batch.y)[0])

    def backward(self) -> None:
        """From the loss back to everything that it was computed from."""
        show("BACKWARD, FROM THE LOSS TO EVERY WEIGHT")
        show("dz is dL/dz, an array of z's shape: how fast L grows when a number of z does. Where this is known of "
             "what a layer gave, the chain rule tells it of what the layer got, and of its weights; so each line takes "
             "those above. To check one, every number is moved a little up and down, and L computed again. The number "
             "at which difference and gradient differ most is shown.")  # fmt: skip
        self.gradient("dz", "fc2", "p - onehot(t), that is p, less 1 at [t]")
        self.gradient("db3", "fc2/b", "dz, because b3 is added to z")
        self.gradient("dw3", "fc2/w", "at [k,j] dz[k] s[j], because w3[k,j] takes s[j] to z[k]")
        self.gradient("ds", "relu2", "w3^T dz, at [j] the sum over k of w3[k,j] dz[k]: all ways from s[j] to L")
        self.gradient("dh", "fc1", "ds where h > 0, else 0: what is cut off moves nothing")
        self.gradient("db2", "fc1/b", "dh")
        self.gradient("dw2", "fc1/w", "at [j,i] dh[j] q[i]")
        self.gradient("dq", "flatten", "w2^T dh")
        self.gradient("dm", "pool", "dq in the shape of m")
        self.gradient("dr", "relu1", "dm where r has a star, else 0: what didn't win moves nothing")
        self.gradient("da", "conv", "dr where a > 0, else 0")
        self.gradient("db1", "conv/b", "at [f] the sum of da[f], because b1[f] is added at every place")
        self.gradient("dw1", "conv/w", "at [f,0,u,v] the sum over i, j of da[f,i,j] x[0,i+u,j+v]")
        da, x = self.slopes["conv"][1], self.values["x"][0, 1:5, 1:5]
        show("One of them, dw1[1,0,1,1]: da[1] times the pixels that this weight met.", da, " x ", x, " = ", da * x)
        self.by_hand("their sum", (da * x).sum(), self.slopes["conv/w"][1, 0, 1, 1])
        self.gradient("dx", "x", "at [0,i,j] the sum over f, u, v of w1[f,0,u,v] da[f,i-u,j-v]")

    def downhill(self, lr: float, steps: int) -> None:
        """A step against the gradient, and some more."""
        show("DOWNHILL, A STEP AGAINST THE GRADIENT")
        # Of each step the state after it, and a record with the loss before it.
        states, records = zip(*fcnn.scan(self.step, self.start, [self.batch] * (steps + 1)), strict=True)
        w, dw, after = self.weights["conv/w"][1, 0], self.slopes["conv/w"][1, 0], states[0].params["conv"]["w"][1, 0]
        text = f"Every weight and bias w becomes w - lr dw, with the learning rate lr = {lr:g}. Of w1[1] comes:"
        show(text, w, f" - {lr:g} x ", dw, " = ", after)
        self.by_hand("at [1,1]", w[1, 1] - lr * dw[1, 1], after[1, 1])
        steep = lr * sum(float((self.slopes[path] ** 2).sum()) for path in self.weights)
        show(f"Were L as steep all the way, it would fall by lr times the sum of all squared gradients, {steep:.6f}; "
             f"it falls by {records[0].loss - records[1].loss:.6f}. Step after step, with p[t] = exp(-L):")  # fmt: skip
        for record in records:
            print(f"    step {record.step:2}:  L = {record.loss:.6f},  p[t] = {np.exp(-record.loss):.6f}")
        show("Training is that with many images, some at a time; scripts/one_file.py is all of it in one file.")

    def gradient(self, symbol: str, path: str, formula: str) -> None:
        """Print a gradient beside its formula, and compare all its numbers with central differences."""
        value, slope = (fcnn.freeze({"here": found[path]}) for found in (self.values, self.slopes))
        show(f"{symbol} {slope['here'].shape} = {formula}:", slope["here"])
        report = fcnn.gradcheck_function(
            lambda moved: self.loss_with(path, moved["here"]), value, slope, directions=0, raises=False
        )
        known = [(c.error > report.tolerance, abs(c.analytic - c.numeric), c) for c in report.checks if c.smooth]
        for _, off, worst in sorted(known, key=lambda check: check[:2])[-1:]:
            text = f"central difference {worst.numeric:.7f} vs. gradient {worst.analytic:.7f}, off by {off:.0e}"
            self.tell(len(known), sum(check[0] for check in known), f"{text} at {list(worst.element)}")
        if report.kinks:
            show(f"({len(report.kinks)} are left out: where numbers in a pool tie, or a ReLU gets 0, L has a kink.)")

    def loss_with(self, path: str, value: Array) -> float:
        """The loss, if at a path there were this: a weight, what a layer gave, or the image, which is at "x"."""
        names = list(self.network.children)
        behind = names[names.index(path) + 1 :] if path in names else names
        y = self.values["x"] if path in self.weights else value
        params = fcnn.tree.set_at(self.start.params, path, value) if path in self.weights else self.start.params
        used = fcnn.freeze({name: params[name] for name in behind if name in params})
        rest = fcnn.serial(begin=fcnn.identity(), **{name: self.network.children[name] for name in behind})
        return self.loss(rest.apply(used, self.start.layer_state, y[None], train=True).y, self.batch.y)[0]

    def by_hand(self, what: str, mine: float, its: float) -> None:
        """Print a number that the tour worked out by itself beside the library's."""
        wrong = not np.isclose(mine, its, rtol=1e-12, atol=1e-12)
        self.tell(1, int(wrong), f"{what} = {mine:.7f} vs. fcnn's {its:.7f}, off by {abs(mine - its):.0e}")

    def tell(self, count: int, wrong: int, comparison: str) -> None:
        """Count so many comparisons, of which some came out wrong, and print the worst."""
        self.checked, self.wrong = self.checked + count, self.wrong + wrong
        print(f"  {f'WRONG, {wrong} of' if wrong else 'checked'} {count}: {comparison}")


def show(text: str, *parts: Array | str) -> None:
    """Print a paragraph, then side by side grids of numbers, one for each channel, and words or grids of words."""
    print("", *textwrap.wrap(text, 94), sep="\n")
    blocks = []
    for part in parts:
        cells = np.atleast_2d(part if np.asarray(part).dtype.kind == "U" else NUMBERS(part))
        blocks += [["".join(row) for row in grid] for grid in cells.reshape(-1, *cells.shape[-2:])]
    height = max(map(len, blocks), default=0)
    for row in range(height):
        places = [(block, row - (height - len(block)) // 2) for block in blocks]
        print("", *(block[k] if 0 <= k < len(block) else " " * len(block[0]) for block, k in places))


if __name__ == "__main__":
    sys.exit(program(main))
