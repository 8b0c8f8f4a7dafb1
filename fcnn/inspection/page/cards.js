// The layers as boxes, one below the other: their maps, their formulas, and marks on single numbers.
"use strict";

const Cards = (() => {
  const { el, number, times } = Dom;
  const MOST_MAPS = 64; // of a layer, until more are asked for

  // Boxes for the picture (k = -1) and each layer, in `parent`; `select(k, index)` is called for a number that is meant,
  // `explain()` where somebody wants to read how it is made, and `redraw()` when there are new maps to draw.
  function make(parent, inShape, layers, names, { select, explain, redraw }) {
    const cards = [null, ...layers].map((layer, at) => card(layer, at - 1));
    parent.append(...cards.map(({ element }) => element));

    function card(layer, k) {
      const shape = layer ? layer.out_shape : inShape, name = layer ? layer.path : "the picture";
      const count = shape.length === 3 ? shape[0] : 1;
      const [height, width] = shape.length === 3 ? shape.slice(1) : rowsOf(shape[0]);
      const cell = shape.length === 3 ? Math.min(Math.max(Math.floor(96 / Math.max(height, width)), 1), 9) : shape[0] <= 16 ? 18 : 8;
      const maps = el("div", {
        class: "maps", role: layer ? "application" : "img", tabindex: layer ? 0 : null,
        "aria-label": layer ? `${name}, ${times(shape)}: arrows move from number to number, Enter explains it` : name,
      });
      const found = { maps, tiles: [], shape, width, height, low: el("span"), high: el("span") };
      const addTiles = (most) => {
        while (found.tiles.length < most) {
          const map = found.tiles.length, canvas = el("canvas"), tile = el("div", { class: "tile" }, canvas);
          tile.style.width = `${width * cell + 2}px`;
          tile.style.height = `${height * cell + 2}px`;
          if (layer) tile.addEventListener("click", (event) => select(k, clicked(event, canvas, map, found)));
          found.tiles.push({ tile, canvas });
          maps.append(tile);
        }
      };
      addTiles(Math.min(count, MOST_MAPS));
      const more = count > MOST_MAPS ? el("button", {
        text: `Show all ${count} maps`, onclick: () => { addTiles(count); more.remove(); redraw(); },
      }) : null;
      if (layer) maps.addEventListener("keydown", (event) => keyed(event, k, found));
      found.legend = el("p", { class: "legend" }, found.low, el("i", { "aria-hidden": "true" }), found.high);
      found.element = el("section", { class: "layer", "aria-label": name },
        el("header", {}, el("h3", { text: name }), layer ? el("code", { text: layer.call }) : null,
          el("span", { class: "shape", text: layer ? `${times(layer.in_shape)} → ${times(layer.out_shape)}` : times(shape) })),
        layer ? el("p", { class: "formula", text: layer.lesson.formula }) : null,
        maps, more, found.legend, layer ? lesson(layer) : null,
        k === layers.length - 1 ? el("p", { class: "note", text: "These are the scores of the classes. Softmax makes the percentages " +
          "above of them: p = exp(y) / Σ exp(y), which are positive and add up to 1." }) : null);
      return found;
    }

    function clicked(event, canvas, map, { shape, width, height }) {
      const box = canvas.getBoundingClientRect();
      const place = (at, begin, length, count) => Math.min(Math.max(Math.floor(((at - begin) / length) * count), 0), count - 1);
      const row = place(event.clientY, box.top, box.height, height), column = place(event.clientX, box.left, box.width, width);
      return Layers.unflat(shape, Math.min((map * height + row) * width + column, Layers.size(shape) - 1));
    }

    let at = { k: null, place: 0 }; // where the arrows are
    function keyed(event, k, { shape, width, height, tiles }) {
      const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      if (!(event.key in steps) && event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      const before = at.k === k ? at.place : 0, [down, across] = steps[event.key] ?? [0, 0], area = height * width;
      let map = Math.floor(before / area), row = Math.floor((before % area) / width) + down, column = (before % width) + across;
      if (column < 0 || column >= width) {
        // Beyond a map's edge lies the next one.
        map = (map + across + tiles.length) % tiles.length;
        column = (column + width) % width;
      }
      row = (row + height) % height;
      select(k, Layers.unflat(shape, Math.min((map * height + row) * width + column, Layers.size(shape) - 1)));
      if (event.key === "Enter") explain();
    }

    // Draw k's numbers, signed, or the picture itself where `numbers` is null.
    function draw(k, numbers, picture) {
      const { tiles, shape, width, height, low, high, legend } = cards[k + 1], area = width * height;
      legend.hidden = numbers === null;
      if (numbers === null) {
        tiles.forEach(({ canvas }, map) => Paint.picture(canvas, picture, map));
        return;
      }
      const most = Paint.greatest(numbers), whole = Layers.size(shape);
      tiles.forEach(({ canvas }, map) =>
        Paint.signed(canvas, width, height, numbers, map * area, Math.min(area, whole - map * area), most));
      low.textContent = number(-most);
      high.textContent = number(most);
    }

    // Mark number `index` of layer k, and what it looks at in the one before.
    function mark(network, k, index) {
      parent.querySelectorAll(".mark").forEach((old) => old.remove());
      if (k === null) return null;
      const { shape, width, height } = cards[k + 1], flat = Layers.flat(shape, index);
      at = { k, place: flat };
      const inMap = flat % (width * height), map = shape.length === 3 ? index[0] : 0;
      markOn(k, map, Math.floor(inMap / width), inMap % width, 1, 1, "mark");
      const seen = Unit.window(network[k], index);
      if (seen && cards[k].shape.length === 3)
        for (const channel of seen.channel === null ? cards[k].tiles.keys() : [seen.channel])
          markOn(k - 1, channel, seen.top, seen.left, seen.height, seen.width, "mark window");
      return cards[k + 1].tiles[map]?.tile;
    }

    function markOn(k, map, top, left, high, wide, name) {
      const { tiles, width, height } = cards[k + 1];
      if (!tiles[map]) return;
      const [y0, x0] = [Math.max(top, 0), Math.max(left, 0)];
      const [y1, x1] = [Math.min(top + high, height), Math.min(left + wide, width)];
      const found = el("span", { class: name, "aria-hidden": "true" });
      Object.assign(found.style, {
        top: `${(100 * y0) / height}%`, left: `${(100 * x0) / width}%`,
        height: `${(100 * (y1 - y0)) / height}%`, width: `${(100 * (x1 - x0)) / width}%`,
      });
      tiles[map].tile.append(found);
    }

    return { draw, mark, focus: (k) => cards[k + 1].maps.focus() };
  }

  // Features in rows: at most 40 beside each other.
  function rowsOf(count) {
    const width = Math.min(count, 40);
    return [Math.ceil(count / width), width];
  }

  function lesson(layer) {
    const counted = layer.parameters ? `; ${layer.parameters.toLocaleString("en")} parameters` : "";
    const held = layer.held ? ", held: a step of learning leaves them as they are" : "";
    return el("details", {}, el("summary", { text: "Its way back, and the lines of fcnn that do both" }),
      el("dl", {}, el("dt", { text: "backward" }), el("dd", { class: "formula", text: layer.lesson.backward }),
        el("dt", { text: "shapes" }),
        el("dd", { text: `takes ${times(layer.in_shape)}, gives ${times(layer.out_shape)}${counted}${held}` })),
      layer.lesson.lines.length
        ? el("pre", {}, el("code", { text: layer.lesson.lines.map(({ where, code }) => `# ${where}\n${code}`).join("\n") })) : null);
  }

  return { make };
})();
