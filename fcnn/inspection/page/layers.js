// fcnn's layers for one image, forward and back, in plain JavaScript.
//
// An array is {shape, data}: shape [C, H, W] or [D], data a Float64Array in that order. Each kind of layer is three
// functions, as in the library: apply(layer, x) -> {y, cache}; backward(layer, cache, dy) -> {dx, params}; and
// unit(layer, x, y, index), which says how one number of y came about. Layers compute as in evaluation: batch norm by
// its running statistics, dropout not at all. No function writes to its arguments.
"use strict";

const Layers = (() => {
  const size = (shape) => shape.reduce((a, b) => a * b, 1);
  const like = (x) => ({ shape: x.shape, data: new Float64Array(x.data.length) });
  const zeros = (shape) => ({ shape, data: new Float64Array(size(shape)) });

  function map(x, f) {
    const y = like(x);
    for (let i = 0; i < x.data.length; i++) y.data[i] = f(x.data[i]);
    return y;
  }

  // The place in data of an index, and back.
  const flat = (shape, index) => index.reduce((at, i, axis) => at * shape[axis] + i, 0);
  function unflat(shape, at) {
    const index = [];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index.unshift(at % shape[axis]);
      at = Math.floor(at / shape[axis]);
    }
    return index;
  }

  // ---- convolution and dense layers ----------------------------------------------------------------------------

  // Calls f(first input row or column, filter row or column, first output, how many) where a filter's tap k meets the
  // image: output o takes the input at o * stride + k - before.
  function overlap(length, outputs, stride, before, k) {
    const first = Math.max(0, Math.ceil((before - k) / stride));
    const last = Math.min(outputs - 1, Math.floor((length - 1 + before - k) / stride));
    return [first, last];
  }

  // Calls visit(input offset, output offset, count, weight offset) for each run of outputs that one weight meets.
  function eachRun(layer, visit) {
    const [C, H, W] = layer.in_shape, [F, OH, OW] = layer.out_shape;
    const [KH, KW] = layer.kernel, [sh, sw] = layer.stride, [[top], [left]] = layer.pads;
    for (let f = 0; f < F; f++)
      for (let c = 0; c < C; c++)
        for (let k = 0; k < KH; k++) {
          const [y0, y1] = overlap(H, OH, sh, top, k);
          for (let l = 0; l < KW; l++) {
            const [x0, x1] = overlap(W, OW, sw, left, l);
            const weight = ((f * C + c) * KH + k) * KW + l;
            for (let y = y0; y <= y1; y++)
              visit((c * H + y * sh + k - top) * W + x0 * sw + l - left, (f * OH + y) * OW + x0, x1 - x0 + 1, weight);
          }
        }
  }

  const conv2d = {
    apply(layer, x) {
      const y = zeros(layer.out_shape), { w, b } = layer.params, area = layer.out_shape[1] * layer.out_shape[2];
      if (b) for (let i = 0; i < y.data.length; i++) y.data[i] = b.data[Math.floor(i / area)];
      const from = x.data, to = y.data, weights = w.data, step = layer.stride[1];
      eachRun(layer, (at, out, count, weight) => {
        const number = weights[weight];
        for (let i = 0; i < count; i++) to[out + i] += number * from[at + i * step];
      });
      return { y, cache: x };
    },
    backward(layer, x, dy) {
      const dx = like(x), dw = like(layer.params.w), step = layer.stride[1];
      const area = layer.out_shape[1] * layer.out_shape[2], weights = layer.params.w.data;
      eachRun(layer, (at, out, count, weight) => {
        const number = weights[weight];
        let sum = 0;
        for (let i = 0; i < count; i++) {
          const d = dy.data[out + i];
          sum += d * x.data[at + i * step];
          dx.data[at + i * step] += d * number;
        }
        dw.data[weight] += sum;
      });
      const params = { w: dw };
      if (layer.params.b) {
        params.b = like(layer.params.b);
        for (let i = 0; i < dy.data.length; i++) params.b.data[Math.floor(i / area)] += dy.data[i];
      }
      return { dx, params };
    },
    unit(layer, x, y, [f, i, j]) {
      const { w, b } = layer.params, channels = [];
      const [KH, KW] = layer.kernel;
      for (let c = 0; c < layer.in_shape[0]; c++) {
        const found = windowOf(layer, x, c, i, j);
        const begin = (f * layer.in_shape[0] + c) * KH * KW;
        const filter = Array.from(w.data.slice(begin, begin + KH * KW));
        const sum = found.values.reduce((total, value, at) => total + value * filter[at], 0);
        channels.push({ channel: c, ...found, filter, sum });
      }
      return { kind: "products", size: [KH, KW], channels, bias: b ? b.data[f] : null };
    },
  };

  // What a window at output (i, j) sees of channel c, row by row; `outside` says which of it is padding.
  function windowOf(layer, x, c, i, j, border = 0) {
    const [, H, W] = layer.in_shape, [KH, KW] = layer.kernel, values = [], outside = [];
    const top = i * layer.stride[0] - layer.pads[0][0], left = j * layer.stride[1] - layer.pads[1][0];
    for (let k = 0; k < KH; k++)
      for (let l = 0; l < KW; l++) {
        const inside = top + k >= 0 && top + k < H && left + l >= 0 && left + l < W;
        values.push(inside ? x.data[(c * H + top + k) * W + left + l] : border);
        outside.push(!inside);
      }
    return { top, left, values, outside };
  }

  const dense = {
    apply(layer, x) {
      const y = zeros(layer.out_shape), { w, b } = layer.params, D = x.data.length;
      for (let o = 0; o < y.data.length; o++) {
        let sum = b ? b.data[o] : 0;
        for (let i = 0; i < D; i++) sum += w.data[o * D + i] * x.data[i];
        y.data[o] = sum;
      }
      return { y, cache: x };
    },
    backward(layer, x, dy) {
      const { w, b } = layer.params, D = x.data.length, dx = like(x), dw = like(w);
      for (let o = 0; o < dy.data.length; o++)
        for (let i = 0; i < D; i++) {
          dw.data[o * D + i] = dy.data[o] * x.data[i];
          dx.data[i] += dy.data[o] * w.data[o * D + i];
        }
      return { dx, params: b ? { w: dw, b: dy } : { w: dw } };
    },
    unit(layer, x, y, [o]) {
      const { w, b } = layer.params, D = x.data.length, terms = [];
      for (let i = 0; i < D; i++) terms.push({ index: i, value: x.data[i], weight: w.data[o * D + i] });
      return { kind: "terms", terms, bias: b ? b.data[o] : null };
    },
  };

  // ---- normalisation: y = scale * (x - mean) + shift, a channel each -------------------------------------------

  const channelOf = (x) => {
    const area = x.data.length / x.shape[0];
    return (i) => Math.floor(i / area);
  };

  const batch_norm = {
    apply(layer, x) {
      const { gamma, beta } = layer.params, { mean, var: variance } = layer.state, channel = channelOf(x), y = like(x);
      const normal = like(x), inverse = variance.data.map((v) => 1 / Math.sqrt(v + layer.eps));
      for (let i = 0; i < x.data.length; i++) {
        const c = channel(i);
        normal.data[i] = (x.data[i] - mean.data[c]) * inverse[c];
        y.data[i] = gamma.data[c] * normal.data[i] + beta.data[c];
      }
      return { y, cache: { normal, inverse } };
    },
    backward(layer, { normal, inverse }, dy) {
      const { gamma, beta } = layer.params, dx = like(dy), channel = channelOf(dy);
      const params = { gamma: like(gamma), beta: like(beta) };
      for (let i = 0; i < dy.data.length; i++) {
        const c = channel(i);
        dx.data[i] = dy.data[i] * gamma.data[c] * inverse[c];
        params.gamma.data[c] += dy.data[i] * normal.data[i];
        params.beta.data[c] += dy.data[i];
      }
      return { dx, params };
    },
    unit(layer, x, y, index) {
      const c = index[0], at = flat(x.shape, index), { gamma, beta } = layer.params, { mean, var: v } = layer.state;
      return {
        kind: "formula", names: { x: x.data[at], mean: mean.data[c], var: v.data[c], ε: layer.eps,
          γ: gamma.data[c], β: beta.data[c] },
      };
    },
  };

  const normalize = {
    apply(layer, x) {
      const y = like(x), channel = channelOf(x), { mean, std } = layer;
      for (let i = 0; i < x.data.length; i++) {
        const c = mean.length > 1 ? channel(i) : 0;
        y.data[i] = (x.data[i] - mean[c]) / std[c];
      }
      return { y, cache: null };
    },
    backward(layer, _, dy) {
      const dx = like(dy), channel = channelOf(dy);
      for (let i = 0; i < dy.data.length; i++) dx.data[i] = dy.data[i] / layer.std[layer.std.length > 1 ? channel(i) : 0];
      return { dx, params: {} };
    },
    unit(layer, x, y, index) {
      const c = layer.mean.length > 1 ? index[0] : 0;
      return { kind: "formula", names: { x: x.data[flat(x.shape, index)], mean: layer.mean[c], std: layer.std[c] } };
    },
  };

  // ---- activations: y = f(x), dx = dy * f'(x) -------------------------------------------------------------------

  // The error function: its series where that is short, else the continued fraction of what is left to 1.
  function erf(x) {
    const a = Math.abs(x);
    if (a > 6) return Math.sign(x);
    if (a < 2.5) {
      let term = x, sum = x;
      for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
        term *= (-x * x) / n;
        sum += term / (2 * n + 1);
      }
      return (2 / Math.sqrt(Math.PI)) * sum;
    }
    let fraction = 0;
    for (let n = 60; n > 0; n--) fraction = n / 2 / (a + fraction);
    return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + fraction));
  }
  const normal = (x) => (1 + erf(x / Math.SQRT2)) / 2;
  const logistic = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));

  // Of f(layer, x) and its slope(layer, x, y).
  const elementwise = (f, slope) => ({
    apply(layer, x) {
      const y = map(x, (value) => f(layer, value));
      return { y, cache: { x, y } };
    },
    backward(layer, { x, y }, dy) {
      const dx = like(dy);
      for (let i = 0; i < dy.data.length; i++) dx.data[i] = dy.data[i] * slope(layer, x.data[i], y.data[i]);
      return { dx, params: {} };
    },
    unit(layer, x, y, index) {
      const names = { x: x.data[flat(x.shape, index)] };
      if (layer.slope !== undefined) names.slope = layer.slope;
      return { kind: "formula", names };
    },
  });

  const relu = elementwise((_, x) => Math.max(x, 0), (_, x) => (x > 0 ? 1 : 0));
  const leaky_relu = elementwise(({ slope }, x) => (x > 0 ? x : slope * x), ({ slope }, x) => (x > 0 ? 1 : slope));
  const sigmoid = elementwise((_, x) => logistic(x), (_, x, y) => y * (1 - y));
  const tanh = elementwise((_, x) => Math.tanh(x), (_, x, y) => 1 - y * y);
  const gelu = elementwise(
    (_, x) => x * normal(x),
    (_, x) => normal(x) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI),
  );

  // Calls visit with the places of the numbers that a softmax normalises together: over classes, or over channels.
  function eachGroup(x, visit) {
    const count = x.shape[0], area = x.data.length / count;
    for (let p = 0; p < area; p++) visit(Array.from({ length: count }, (_, c) => c * area + p));
  }

  const softmax = {
    apply(layer, x) {
      const y = like(x);
      eachGroup(x, (places) => {
        const greatest = Math.max(...places.map((i) => x.data[i]));
        let sum = 0;
        for (const i of places) sum += y.data[i] = Math.exp(x.data[i] - greatest);
        for (const i of places) y.data[i] /= sum;
      });
      return { y, cache: y };
    },
    backward(layer, y, dy) {
      const dx = like(dy);
      eachGroup(y, (places) => {
        const sum = places.reduce((total, i) => total + dy.data[i] * y.data[i], 0);
        for (const i of places) dx.data[i] = y.data[i] * (dy.data[i] - sum);
      });
      return { dx, params: {} };
    },
    unit(layer, x, y, index) {
      const area = x.data.length / x.shape[0], at = flat(x.shape, index);
      let sum = 0;
      for (let c = 0; c < x.shape[0]; c++) sum += Math.exp(x.data[c * area + (at % area)]);
      return { kind: "formula", names: { x: x.data[at], "the sum of exp(x)": sum } };
    },
  };

  // ---- pools ---------------------------------------------------------------------------------------------------

  // reduce(window) is the output, share(window) how much of its gradient each place gets; `border` is what pads.
  const pool = (border, reduce, share) => ({
    apply(layer, x) {
      const y = zeros(layer.out_shape), [C, OH, OW] = layer.out_shape;
      for (let c = 0, at = 0; c < C; c++)
        for (let i = 0; i < OH; i++)
          for (let j = 0; j < OW; j++) y.data[at++] = reduce(windowOf(layer, x, c, i, j, border));
      return { y, cache: x };
    },
    backward(layer, x, dy) {
      const dx = like(x), [C, OH, OW] = layer.out_shape, [, H, W] = layer.in_shape, KW = layer.kernel[1];
      for (let c = 0, at = 0; c < C; c++)
        for (let i = 0; i < OH; i++)
          for (let j = 0; j < OW; j++, at++) {
            const found = windowOf(layer, x, c, i, j, border), shares = share(found);
            shares.forEach((part, k) => {
              if (!part || found.outside[k]) return;
              const row = found.top + Math.floor(k / KW), column = found.left + (k % KW);
              dx.data[(c * H + row) * W + column] += part * dy.data[at];
            });
          }
      return { dx, params: {} };
    },
    unit(layer, x, y, [c, i, j]) {
      const found = windowOf(layer, x, c, i, j, border);
      return { kind: "window", size: layer.kernel, channel: c, ...found, shares: share(found) };
    },
  });

  // The first of the greatest numbers that isn't padding: -Infinity may be in the image, too.
  function firstMaximum({ values, outside }) {
    let best = -1;
    values.forEach((value, k) => {
      if (!outside[k] && (best < 0 || value > values[best])) best = k;
    });
    return best;
  }

  const max_pool2d = pool(
    -Infinity,
    (found) => found.values[firstMaximum(found)],
    (found) => found.values.map((_, k) => (k === firstMaximum(found) ? 1 : 0)),
  );
  const avg_pool2d = pool(
    0,
    ({ values }) => values.reduce((a, b) => a + b, 0) / values.length,
    ({ values }) => values.map(() => 1 / values.length),
  );

  const global_avg_pool2d = {
    apply(layer, x) {
      const y = zeros(layer.out_shape), channel = channelOf(x), area = x.data.length / x.shape[0];
      for (let i = 0; i < x.data.length; i++) y.data[channel(i)] += x.data[i];
      for (let c = 0; c < y.data.length; c++) y.data[c] /= area;
      return { y, cache: x };
    },
    backward(layer, x, dy) {
      const dx = like(x), channel = channelOf(x), area = x.data.length / x.shape[0];
      for (let i = 0; i < x.data.length; i++) dx.data[i] = dy.data[channel(i)] / area;
      return { dx, params: {} };
    },
    unit(layer, x, y, [c]) {
      const area = x.data.length / x.shape[0];
      const values = Array.from(x.data.slice(c * area, (c + 1) * area));
      return {
        kind: "window", size: [x.shape[1], x.shape[2]], channel: c, top: 0, left: 0, values,
        outside: values.map(() => false), shares: values.map(() => 1 / area),
      };
    },
  };

  // ---- layers that change the shape, or nothing ------------------------------------------------------------------

  const same = {
    apply: (layer, x) => ({ y: { shape: layer.out_shape, data: x.data }, cache: x.shape }),
    backward: (layer, shape, dy) => ({ dx: { shape, data: dy.data }, params: {} }),
    unit: (layer, x, y, index) => ({ kind: "same", from: unflat(x.shape, flat(y.shape, index)) }),
  };

  const LAYERS = {
    conv2d, dense, batch_norm, normalize, relu, leaky_relu, sigmoid, tanh, gelu, softmax, max_pool2d, avg_pool2d,
    global_avg_pool2d, flatten: same, identity: same, dropout: same,
  };

  return { LAYERS, windowOf, flat, unflat, size, like, zeros, map, erf };
})();
