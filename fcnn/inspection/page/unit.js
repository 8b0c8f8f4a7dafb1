// How one number of a layer's output is made: its window, its filter and the sum, number by number.
"use strict";

const Unit = (() => {
  const { el, number, short, alike } = Dom;
  const MOST = 8; // channels, or terms of a sum, that are written out

  // "map 3, row 5, column 7", or "number 12", counted from 1.
  function place(shape, index, name = "map") {
    if (shape.length === 1) return `number ${index[0] + 1}`;
    const map = shape[0] > 1 ? `${name} ${index[0] + 1}, ` : "";
    return `${map}row ${index[1] + 1}, column ${index[2] + 1}`;
  }

  function grid(values, [height, width], caption, { outside = [], winner = -1, most = Paint.greatest(values) } = {}) {
    const rows = Array.from({ length: height }, (_, y) =>
      el("tr", {}, ...Array.from({ length: width }, (_, x) => {
        const at = y * width + x, shown = Number.isFinite(values[at]);
        const colour = Paint.colour(shown ? values[at] : 0, most);
        const cell = el("td", {
          text: shown ? short(values[at]) : "", class: outside[at] ? "outside" : at === winner ? "winner" : null,
          title: outside[at] ? "padding" : number(values[at]),
        });
        cell.style.background = Paint.css(colour);
        cell.style.color = Paint.inkOn(colour);
        return cell;
      })));
    return el("div", {}, el("span", { class: "note", text: caption }), el("table", { class: "grid" }, el("tbody", {}, ...rows)));
  }

  // [what it is, how much] one below the other, and the sum.
  function total(terms, bias, sum) {
    const parts = [...terms, ...(bias === null ? [] : [["bias", bias]])];
    const texts = alike([...parts.map(([, value]) => value), sum]);
    const row = (name, text) => el("tr", {}, el("th", { scope: "row", text: name }), el("td", { class: "share", text }));
    return el("table", { class: "numbers total" }, el("tbody", {}, ...parts.map(([name], i) => row(name, texts[i]))),
      el("tfoot", {}, row("the sum", texts.at(-1))));
  }

  const others = (rest, sum, noun) =>
    rest.length ? [[`the other ${rest.length} ${noun}${rest.length > 1 ? "s" : ""}`, sum]] : [];

  function products(layer, found, y) {
    const order = [...found.channels].sort((a, b) => Math.abs(b.sum) - Math.abs(a.sum));
    const shown = order.slice(0, MOST), rest = order.slice(MOST);
    const most = Paint.greatest(found.channels.flatMap((each) => each.values));
    const strongest = Paint.greatest(found.channels.flatMap((each) => each.filter));
    const parts = shown.map((each) =>
      el("div", {},
        found.channels.length > 1 ? el("h4", { text: `Map ${each.channel + 1} of the layer before` }) : null,
        el("div", { class: "operands" },
          grid(each.values, found.size, "window", { outside: each.outside, most }), el("span", { text: "×" }),
          grid(each.filter, found.size, "filter", { most: strongest }),
          el("span", { class: "sum", text: `= ${number(each.sum)}` }))));
    const left = rest.reduce((sum, each) => sum + each.sum, 0);
    return [
      el("p", { text: "Each number of the window times the number of the filter at its place, and all of them added up" +
        (found.channels[0].outside.some(Boolean) ? "; dotted cells are padding." : ".") }),
      ...parts,
      el("h4", { text: "The sum" }),
      total([...shown.map((each) => [found.channels.length > 1 ? `map ${each.channel + 1}` : "products", each.sum]), ...others(rest, left, "map")],
        found.bias, y),
    ];
  }

  function terms(found, y, before) {
    const order = [...found.terms].sort((a, b) => Math.abs(b.value * b.weight) - Math.abs(a.value * a.weight));
    const shown = order.slice(0, 2 * MOST), rest = order.slice(2 * MOST);
    const left = rest.reduce((sum, each) => sum + each.value * each.weight, 0);
    const row = (...cells) => el("tr", {}, ...cells.map((text, at) => el(at ? "td" : "th", { text, class: at ? "share" : null, scope: at ? null : "row" })));
    return [
      el("p", { text: `${found.terms.length} numbers come in, each with a weight of its own. Those that weigh most:` }),
      el("table", { class: "numbers" },
        el("thead", {}, el("tr", {}, ...["number", "value", "weight", "product"].map((text) => el("th", { text, scope: "col" })))),
        el("tbody", {}, ...shown.map((each) =>
          row(before(each.index), number(each.value), number(each.weight), number(each.value * each.weight))))),
      el("h4", { text: "The sum" }),
      total([["those", shown.reduce((sum, each) => sum + each.value * each.weight, 0)], ...others(rest, left, "product")],
        found.bias, y),
    ];
  }

  function pooled(layer, found, y) {
    const winner = layer.kind === "max_pool2d" ? found.shares.findIndex((share) => share > 0) : -1;
    const large = found.values.length > 64;
    return [
      el("p", { text: winner >= 0 ? "The greatest number of the window. On the way back, it alone gets the gradient."
        : `The mean of ${found.values.length} numbers. On the way back, each gets an equal share of the gradient.` }),
      found.outside.some(Boolean) ? el("p", { text: layer.kind === "max_pool2d" ? "Dotted cells are padding, which never wins."
        : "Dotted cells are padding: they count as zeros." }) : null,
      large ? null : grid(found.values, found.size, "window", { outside: found.outside, winner }),
      el("p", { class: "sum", text: `${winner >= 0 ? "max" : "mean"} = ${number(y)}` }),
    ];
  }

  const formula = (layer, found, y) => [
    el("p", { class: "formula", text: layer.lesson.formula }),
    el("table", { class: "numbers" }, el("tbody", {}, ...[...Object.entries(found.names), ["y", y]].map(([name, value]) =>
      el("tr", {}, el("th", { scope: "row", text: name }), el("td", { class: "share", text: number(value) }))))),
  ];

  // The nodes that explain number `index` of layer k; `inputs` are the arrays that go into each layer.
  function explain(network, k, index, inputs, outputs, gradients, names) {
    const layer = network[k], x = inputs[k], y = outputs[k], at = Layers.flat(y.shape, index), value = y.data[at];
    const found = Layers.LAYERS[layer.kind].unit(layer, x, y, index);
    const before = (i) => {
      // A flattened number is known by the map that it comes from.
      let source = k - 1;
      while (source >= 0 && ["flatten", "dropout", "identity"].includes(network[source].kind)) source--;
      const shape = source >= 0 ? network[source].out_shape : network[0].in_shape;
      const name = source >= 0 ? network[source].path : "the picture";
      return `${name}: ${place(shape, Layers.unflat(shape, i))}`;
    };
    const bodies = {
      products: () => products(layer, found, value),
      terms: () => terms(found, value, before),
      window: () => pooled(layer, found, value),
      formula: () => formula(layer, found, value),
      same: () => [el("p", { text: `The same number as ${place(x.shape, found.from)} of what comes in.` })],
    };
    return [
      el("p", {}, el("strong", { text: layer.path }), ` ${layer.call}: ${place(y.shape, index)}${k === network.length - 1 ? `, the score of ${names[index[0]]}` : ""}`),
      ...bodies[found.kind](),
      el("p", {}, "The gradient of the loss here is ", el("span", { class: "sum", text: number(gradients[k].data[at]) }),
        gradients[k].data[at] === 0 ? ": to change this number a little would change nothing."
          : `: ${gradients[k].data[at] > 0 ? "less" : "more"} of this number would make the loss smaller.`),
    ].filter(Boolean);
  }

  // Where number `index` of a layer looks in the one before: {channel (null: all), top, left, height, width}, or null.
  function window(layer, index) {
    if (layer.kernel) {
      const [, i, j] = index, [height, width] = layer.kernel;
      const channel = layer.kind === "conv2d" ? null : index[0];
      return { channel, top: i * layer.stride[0] - layer.pads[0][0], left: j * layer.stride[1] - layer.pads[1][0], height, width };
    }
    if (layer.kind === "dense" || layer.kind === "global_avg_pool2d") return null;
    const [channel, top = 0, left = 0] = Layers.unflat(layer.in_shape, Layers.flat(layer.out_shape, index));
    return { channel, top, left, height: 1, width: 1 };
  }

  return { explain, window, place };
})();
