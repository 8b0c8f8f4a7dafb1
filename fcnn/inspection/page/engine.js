// A network of layers one after the other, for one image: forward, back, and what is made of that.
"use strict";

const Engine = (() => {
  const { LAYERS, like, zeros, map } = Layers;

  // Every layer's output: outputs[k] of layer k, and what the way back needs.
  function forward(network, x) {
    const outputs = [], caches = [];
    for (const layer of network) {
      const { y, cache } = LAYERS[layer.kind].apply(layer, x);
      outputs.push(y);
      caches.push(cache);
      x = y;
    }
    return { outputs, caches };
  }

  // The gradient of sum(dy * output): at each layer's output, at the input (dx), and of each layer's parameters.
  function backward(network, caches, dy) {
    const gradients = [], params = [];
    for (let k = network.length - 1; k >= 0; k--) {
      gradients[k] = dy;
      const found = LAYERS[network[k].kind].backward(network[k], caches[k], dy);
      params[k] = found.params;
      dy = found.dx;
    }
    return { gradients, params, dx: dy };
  }

  const probabilities = (scores) => LAYERS.softmax.apply(null, scores).y;

  // -log of the probability of the class, from scores; and its gradient, probabilities - 1 at the class.
  function crossEntropy(scores, target) {
    const p = probabilities(scores), gradient = { shape: p.shape, data: Float64Array.from(p.data) };
    gradient.data[target] -= 1;
    const greatest = Math.max(...scores.data);
    const total = scores.data.reduce((sum, s) => sum + Math.exp(s - greatest), 0);
    return { value: greatest + Math.log(total) - scores.data[target], gradient };
  }

  // The network after one step of SGD: each parameter less lr times its gradient, but for layers that are held. The old
  // one is as it was.
  const stepped = (network, gradients, lr) =>
    network.map((layer, k) => {
      if (layer.held) return layer;
      const params = {};
      for (const [name, p] of Object.entries(layer.params))
        params[name] = { shape: p.shape, data: p.data.map((value, i) => value - lr * gradients[k][name].data[i]) };
      return { ...layer, params };
    });

  // Where layer k's maps speak for a class, in [0, 1], spread over [H, W]: Selvaraju et al., equations 1 and 2.
  function gradCam(network, { outputs, caches }, k, target, [H, W]) {
    const scores = outputs[outputs.length - 1], dy = like(scores);
    dy.data[target] = 1;
    const y = outputs[k], gradient = backward(network, caches, dy).gradients[k];
    const [C, h, w] = y.shape, area = h * w, found = zeros([h, w]);
    for (let c = 0; c < C; c++) {
      let mean = 0;
      for (let p = 0; p < area; p++) mean += gradient.data[c * area + p] / area;
      for (let p = 0; p < area; p++) found.data[p] += mean * y.data[c * area + p];
    }
    const greatest = found.data.reduce((a, b) => Math.max(a, b), 0);
    return resized(map(found, (value) => (greatest > 0 ? Math.max(value, 0) / greatest : 0)), H, W);
  }

  // Linear interpolation along both axes between pixels' centres, level at the ends.
  function resized(image, H, W) {
    const [h, w] = image.shape, found = zeros([H, W]);
    const place = (i, size, old) => {
      const at = Math.min(Math.max(((i + 0.5) * old) / size - 0.5, 0), old - 1);
      const low = Math.min(Math.floor(at), Math.max(old - 2, 0));
      return [low, Math.min(low + 1, old - 1), at - low];
    };
    for (let i = 0; i < H; i++) {
      const [top, bottom, down] = place(i, H, h);
      for (let j = 0; j < W; j++) {
        const [left, right, across] = place(j, W, w), at = (row, column) => image.data[row * w + column];
        found.data[i * W + j] = (at(top, left) * (1 - across) + at(top, right) * across) * (1 - down) +
          (at(bottom, left) * (1 - across) + at(bottom, right) * across) * down;
      }
    }
    return found;
  }

  return { forward, backward, crossEntropy, probabilities, stepped, gradCam };
})();
