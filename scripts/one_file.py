"""The whole of training a convolutional network, in one file of plain NumPy, to be read from top to bottom.

    python scripts/one_file.py            # on digits that fcnn draws, where it is installed: nothing else needs it
    python scripts/one_file.py FOLDER     # on MNIST's four files, such as train-images-idx3-ubyte.gz

What computes y has a backward: from d_y, the gradient of the loss with respect to y, it gives that with respect to each
array that y came from, in the shape of that array. Called from the last back to the first: that is backpropagation.

In shapes: N images, C channels, H x W pixels, F filters of K x K weights or outputs, D inputs of a dense layer.
"""

import gzip
import sys
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def dense(x, w, b):
    """Every output is a weighted sum of all inputs, and a bias: x (N, D), w (F, D), b (F,) -> y (N, F)."""
    return x @ w.T + b


def dense_backward(d_y, x, w):
    """d_x (N, D), d_w (F, D), d_b (F,): w[f, d] takes x[n, d] to y[n, f], for all n."""
    return d_y @ w, d_y.T @ x, d_y.sum(axis=0)


def conv(x, w, b):
    """A dense layer on each K x K window: x (N, C, H, W), w (F, C, K, K), b (F,) -> y (N, F, H-K+1, W-K+1), rows."""
    k = w.shape[2]
    windows = sliding_window_view(x, (k, k), axis=(2, 3))  # (N, C, H', W', K, K) with H' = H-K+1, W' = W-K+1
    n, _, height, width = windows.shape[:4]
    rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, w[0].size)  # (N H' W', C K K): a window a row, "im2col"
    y = dense(rows, w.reshape(len(w), -1), b)  # (N H' W', F)
    return y.reshape(n, height, width, -1).transpose(0, 3, 1, 2), rows


def conv_backward(d_y, x, w, rows):
    """d_x, d_w, d_b: as of the dense layer, and then the gradients of windows go back to where those came from."""
    n, f, height, width = d_y.shape
    d_rows, d_w, d_b = dense_backward(d_y.transpose(0, 2, 3, 1).reshape(-1, f), rows, w.reshape(f, -1))
    d_windows = d_rows.reshape(n, height, width, *w.shape[1:]).transpose(0, 3, 1, 2, 4, 5)  # (N, C, H', W', K, K)
    d_x = np.zeros_like(x)
    for i, j in np.ndindex(w.shape[2:]):  # a pixel is in up to K K windows, and gets the sum of its gradients there
        d_x[:, :, i : i + height, j : j + width] += d_windows[..., i, j]
    return d_x, d_w.reshape(w.shape), d_b


def pool(x):
    """The greatest of each 2 x 2 pixels: x (N, C, H, W) -> y (N, C, H/2, W/2), and which of the four it was."""
    n, c, h, w = x.shape
    fours = x.reshape(n, c, h // 2, 2, w // 2, 2).swapaxes(3, 4).reshape(n, c, h // 2, w // 2, 4)
    winner = fours.argmax(axis=-1)[..., None]  # of equal ones the first
    return np.take_along_axis(fours, winner, axis=-1)[..., 0], winner


def pool_backward(d_y, winner):
    """d_x: the winner of each 2 x 2 pixels gets the gradient, the others 0."""
    n, c, h, w = d_y.shape
    fours = np.zeros((n, c, h, w, 4), d_y.dtype)
    np.put_along_axis(fours, winner, d_y[..., None], axis=-1)
    return fours.reshape(n, c, h, w, 2, 2).swapaxes(3, 4).reshape(n, c, 2 * h, 2 * w)


def cross_entropy(logits, labels):
    """The mean of -log p[label] with p = softmax(logits), (N, classes); and its gradient, (p - onehot(label)) / N."""
    n = np.arange(len(labels))
    logits = logits - logits.max(axis=1, keepdims=True)  # changes no p, and no exp can overflow
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    d_logits = np.exp(log_p)
    d_logits[n, labels] -= 1
    return -log_p[n, labels].mean(), d_logits / len(labels)


def init(rng, dtype=np.float32):
    """A network for images (1, 28, 28) and 10 classes: weights at random, of variance 2 / inputs; biases 0."""
    params = {}
    for name, shape in {"conv1": (8, 1, 5, 5), "conv2": (16, 8, 5, 5), "fc1": (64, 256), "fc2": (10, 64)}.items():
        params[name + "/w"] = (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(dtype)
        params[name + "/b"] = np.zeros(shape[0], dtype)
    return params


def forward(params, x):
    """Images (N, 1, 28, 28) -> logits (N, 10), and all that the way back needs. max(…, 0) is the ReLU."""
    a1, rows1 = conv(x, params["conv1/w"], params["conv1/b"])  # (N, 8, 24, 24)
    m1, winner1 = pool(np.maximum(a1, 0))  # (N, 8, 12, 12)
    a2, rows2 = conv(m1, params["conv2/w"], params["conv2/b"])  # (N, 16, 8, 8)
    m2, winner2 = pool(np.maximum(a2, 0))  # (N, 16, 4, 4)
    q = m2.reshape(len(x), -1)  # (N, 256)
    h = dense(q, params["fc1/w"], params["fc1/b"])  # (N, 64)
    s = np.maximum(h, 0)
    return dense(s, params["fc2/w"], params["fc2/b"]), (a1, rows1, winner1, m1, a2, rows2, winner2, m2, q, h, s)


def gradients(params, x, labels):
    """The loss, and d: its gradient with respect to each array of params, by the same names."""
    logits, (a1, rows1, winner1, m1, a2, rows2, winner2, m2, q, h, s) = forward(params, x)
    loss, d_logits = cross_entropy(logits, labels)
    d = {}
    d_s, d["fc2/w"], d["fc2/b"] = dense_backward(d_logits, s, params["fc2/w"])
    d_h = d_s * (h > 0)  # what the ReLU cut off can't change the loss
    d_q, d["fc1/w"], d["fc1/b"] = dense_backward(d_h, q, params["fc1/w"])
    d_a2 = pool_backward(d_q.reshape(m2.shape), winner2) * (a2 > 0)
    d_m1, d["conv2/w"], d["conv2/b"] = conv_backward(d_a2, m1, params["conv2/w"], rows2)
    d_a1 = pool_backward(d_m1, winner1) * (a1 > 0)
    _, d["conv1/w"], d["conv1/b"] = conv_backward(d_a1, x, params["conv1/w"], rows1)
    return loss, d


def step(params, velocity, d, lr=0.02, momentum=0.9):
    """A step of gradient descent with momentum: velocity = momentum * velocity + d, params = params - lr * velocity."""
    velocity = {name: momentum * velocity[name] + d[name] for name in params}
    return {name: params[name] - lr * velocity[name] for name in params}, velocity


def load(folder):
    """Images (N, 1, 28, 28) and labels (N,), uint8, to train on; and others to test with."""
    if folder is None:
        import fcnn

        digits = fcnn.data.load("digits")
        return digits.train.x, digits.train.y, digits.test.x, digits.test.y
    names = {"train-images-idx3": 16, "train-labels-idx1": 8, "t10k-images-idx3": 16, "t10k-labels-idx1": 8}
    files = [gzip.decompress(Path(folder, f"{name}-ubyte.gz").read_bytes()) for name in names]
    x, y, x_test, y_test = map(lambda file, header: np.frombuffer(file, np.uint8)[header:], files, names.values())
    return x.reshape(-1, 1, 28, 28), y, x_test.reshape(-1, 1, 28, 28), y_test


def train(x, y, x_test, y_test, epochs=5, size=64, seed=0):
    """In each epoch all images have their turn, in random order, `size` of them a step. Gives the trained params."""
    rng = np.random.default_rng(seed)
    params = init(rng)
    velocity = {name: np.zeros_like(w) for name, w in params.items()}
    for epoch in range(1, epochs + 1):
        total = 0.0
        for batch in np.split(rng.permutation(len(x)), range(size, len(x), size)):
            loss, d = gradients(params, x[batch] / np.float32(255), y[batch])
            params, velocity = step(params, velocity, d)
            total += loss * len(batch)
        parts = np.split(x_test, range(500, len(x_test), 500))  # which take less memory than all at once
        answers = np.concatenate([forward(params, part / np.float32(255))[0].argmax(axis=1) for part in parts])
        print(f"epoch {epoch}: loss {total / len(x):.4f}, accuracy on test images {(answers == y_test).mean():.2%}")
    return params


if __name__ == "__main__":
    train(*load(sys.argv[1] if len(sys.argv) > 1 else None))
