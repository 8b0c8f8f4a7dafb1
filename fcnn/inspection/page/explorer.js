// The page: what is drawn goes through the network, forward and back, and every layer shows what it made of it.
"use strict";

const explorer = (() => {
  const { el, number, percent, times, byId } = Dom;
  const MOST_MAPS = 64; // of a layer, until more are asked for
  const MOST_ROWS = 12; // classes of a table

  const data = JSON.parse(byId("data").textContent);
  const [C, H, W] = data.in_shape;

  // Numbers of the page's data: little-endian bytes in base64.
  function decoded({ shape, dtype, data: text }) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const kind = { float32: Float32Array, float64: Float64Array, uint8: Uint8Array }[dtype];
    return { shape, data: Float64Array.from(new kind(bytes.buffer)) };
  }
  const arrays = (named) => Object.fromEntries(Object.entries(named).map(([name, array]) => [name, decoded(array)]));
  const trained = data.layers.map((layer) => ({ ...layer, params: arrays(layer.params), state: arrays(layer.state) }));
  const names = data.classes;
  // As the library makes uint8 into float32.
  const examples = data.examples.map(({ x, ...notes }) => {
    const image = decoded(x);
    return { ...notes, picture: { shape: image.shape, data: image.data.map((value) => Math.fround(value / 255)) } };
  });

  // All that changes. `run` and `back` are of the picture and the network as they are.
  const now = {
    network: trained, steps: 0, x: null, label: null, target: 0, chosen: false, gradients: false, unit: null,
    run: null, back: null, camLayer: data.cam,
  };

  const paper = Paper.make(byId("paper"), data.in_shape, data.fit, (stamp) => {
    now.label = null;
    mark(null);
    later(stamp);
  });

  // ---- computing -------------------------------------------------------------------------------------------------

  // What a stroke took, in milliseconds: to compute and draw every layer, and from the pen's own time on.
  const timing = { milliseconds: 0, fromEvent: 0 };
  let waiting = false, resting = false;

  // Once a frame, however many strokes there were: first every layer, and in the next frame the way back.
  function later(stamp) {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const began = performance.now();
      now.x = paper.picture();
      compute();
      drawForward();
      timing.milliseconds = performance.now() - began;
      timing.fromEvent = performance.now() - stamp;
      if (resting) return;
      resting = true;
      requestAnimationFrame(() => {
        resting = false;
        drawBackward();
      });
    });
  }

  function update() {
    now.x = paper.picture();
    compute();
    draw();
  }

  function compute() {
    now.run = Engine.forward(now.network, now.x);
    const scores = now.run.outputs.at(-1), best = indexOfGreatest(scores.data);
    if (now.label !== null && !now.chosen) now.target = now.label;
    else if (!now.chosen) now.target = best;
    now.back = backwards(now.network, now.run, now.target);
  }

  function backwards(network, run, target) {
    const { value, gradient } = Engine.crossEntropy(run.outputs.at(-1), target);
    return { loss: value, ...Engine.backward(network, run.caches, gradient) };
  }

  const indexOfGreatest = (values) => values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
  const inputs = () => [now.x, ...now.run.outputs.slice(0, -1)];

  // ---- the answer ------------------------------------------------------------------------------------------------

  const rows = names.map((name) => {
    const fill = el("i"), share = el("span", { class: "share" });
    const row = el("li", {}, el("span", { class: "name", text: name }), el("span", { class: "bar", "aria-hidden": "true" }, fill), share);
    return { row, fill, share };
  });
  // Of many classes the first by probability; of few all, in their own order.
  byId("scores").append(...rows.map(({ row }) => row));

  function drawAnswer() {
    const p = Engine.probabilities(now.run.outputs.at(-1)).data, best = indexOfGreatest(p);
    const shown = new Set(leading(p));
    rows.forEach(({ row, fill, share }, k) => {
      row.hidden = !shown.has(k);
      row.classList.toggle("best", k === best);
      fill.style.width = `${100 * p[k]}%`;
      share.textContent = percent(p[k]);
    });
    const empty = now.x.data.every((value) => value === 0);
    const truth = now.label === null ? "" : now.label === best ? " That is right." : ` That is wrong: it is ${names[now.label]}.`;
    const text = empty ? "The paper is empty. Draw something." : `It says ${names[best]}, with ${percent(p[best])}.${truth}`;
    if (byId("verdict").textContent !== text) byId("verdict").textContent = text;
  }

  // The classes that a table has room for, in their own order.
  function leading(p) {
    const order = [...p.keys()].sort((a, b) => p[b] - p[a]);
    return order.slice(0, MOST_ROWS).sort((a, b) => a - b);
  }

  // ---- the layers ------------------------------------------------------------------------------------------------

  const cards = [card(-1), ...data.layers.map((_, k) => card(k))];
  byId("layers").append(...cards.map(({ element }) => element));

  // A layer's box, drawn to later; k = -1 is the picture.
  function card(k) {
    const layer = data.layers[k], shape = layer ? layer.out_shape : data.in_shape, name = layer ? layer.path : "the picture";
    const count = shape.length === 3 ? shape[0] : 1;
    const [height, width] = shape.length === 3 ? shape.slice(1) : rowsOf(shape[0]);
    const cell = shape.length === 3 ? Math.min(Math.max(Math.floor(96 / Math.max(height, width)), 1), 9) : shape[0] <= 16 ? 18 : 8;
    const maps = el("div", {
      class: "maps", role: "application", tabindex: layer ? 0 : null,
      "aria-label": `${name}, ${times(shape)}: arrows move from number to number, Enter shows how it is made`,
    });
    const tiles = [];
    function addTiles(most) {
      while (tiles.length < most) {
        const canvas = el("canvas"), tile = el("div", { class: "tile" }, canvas), map = tiles.length;
        tile.style.width = `${width * cell + 2}px`;
        tile.style.height = `${height * cell + 2}px`;
        tile.dataset.map = map;
        if (layer)
          tile.addEventListener("click", (event) => {
            const box = canvas.getBoundingClientRect();
            const row = Math.min(Math.floor(((event.clientY - box.top) / box.height) * height), height - 1);
            const column = Math.min(Math.floor(((event.clientX - box.left) / box.width) * width), width - 1);
            const at = (map * height + Math.max(row, 0)) * width + Math.max(column, 0);
            if (at < Engine.size(shape)) select(k, Engine.unflat(shape, at));
          });
        tiles.push({ tile, canvas });
        maps.append(tile);
      }
    }
    addTiles(Math.min(count, MOST_MAPS));
    maps.addEventListener("keydown", (event) => layer && moveUnit(event, k, shape, height, width));
    const more = count > MOST_MAPS ? el("button", {
      text: `Show all ${count} maps`, onclick: () => { addTiles(count); more.remove(); draw(); },
    }) : null;
    const low = el("span"), high = el("span");
    const legend = el("p", { class: "legend" }, low, el("i", { "aria-hidden": "true" }), high);
    const element = el("section", { class: "layer", "aria-label": name },
      el("header", {}, el("h3", { text: name }), layer ? el("code", { text: layer.call }) : null,
        el("span", { class: "shape", text: layer ? `${times(layer.in_shape)} → ${times(layer.out_shape)}` : times(shape) })),
      layer ? el("p", { class: "formula", text: layer.lesson.formula }) : null,
      maps, more, layer ? legend : null, layer ? lesson(layer) : null);
    return { element, maps, tiles, shape, width, height, low, high };
  }

  // Features in rows: at most 40 beside each other.
  function rowsOf(count) {
    const width = Math.min(count, 40);
    return [Math.ceil(count / width), width];
  }

  function lesson(layer) {
    const counted = layer.parameters ? `; ${layer.parameters.toLocaleString("en")} parameters` : "";
    return el("details", {}, el("summary", { text: "Its way back, and the lines of fcnn that do both" }),
      el("dl", {}, el("dt", { text: "backward" }), el("dd", { class: "formula", text: layer.lesson.backward }),
        el("dt", { text: "shapes" }), el("dd", { text: `takes ${times(layer.in_shape)}, gives ${times(layer.out_shape)}${counted}` })),
      el("pre", {}, el("code", { text: layer.lesson.lines.map(({ where, code }) => `# ${where}\n${code}`).join("\n") })));
  }

  function drawCard(k) {
    const { tiles, shape, width, height, low, high } = cards[k + 1], area = width * height, whole = Engine.size(shape);
    if (k < 0 && !now.gradients) {
      tiles.forEach(({ canvas }, map) => Paint.picture(canvas, now.x, map));
      return;
    }
    const { data: numbers } = k < 0 ? now.back.dx : now.gradients ? now.back.gradients[k] : now.run.outputs[k];
    const most = Paint.greatest(numbers);
    tiles.forEach(({ canvas }, map) =>
      Paint.signed(canvas, width, height, numbers, map * area, Math.min(area, whole - map * area), most));
    low.textContent = number(-most);
    high.textContent = number(most);
  }

  // ---- one number ------------------------------------------------------------------------------------------------

  function moveUnit(event, k, shape, height, width) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (!(event.key in steps) && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    let at = now.unit?.k === k ? Engine.flat(shape, now.unit.index) : 0;
    const [down, across] = steps[event.key] ?? [0, 0], area = height * width;
    let map = Math.floor(at / area), row = Math.floor((at % area) / width) + down, column = (at % width) + across;
    const maps = cards[k + 1].tiles.length;
    // Beyond a map's edge lies the next one.
    if (column < 0 || column >= width) {
      map = (map + across + maps) % maps;
      column = (column + width) % width;
    }
    row = (row + height) % height;
    at = Math.min((map * height + row) * width + column, Engine.size(shape) - 1);
    select(k, Engine.unflat(shape, at));
  }

  function select(k, index) {
    now.unit = { k, index };
    byId("unit").classList.add("open");
    drawUnit();
  }

  function drawUnit() {
    document.querySelectorAll(".mark").forEach((mark) => mark.remove());
    if (!now.unit) return;
    const { k, index } = now.unit;
    byId("unit-body").replaceChildren(...Unit.explain(now.network, k, index, inputs(), now.run.outputs, now.back.gradients));
    const { shape, width, height } = cards[k + 1], at = Engine.flat(shape, index) % (width * height);
    markOn(k, shape.length === 3 ? index[0] : 0, Math.floor(at / width), at % width, 1, 1, "mark");
    const seen = Unit.window(now.network[k], index);
    if (!seen || cards[k].shape.length !== 3) return;
    const all = seen.channel === null ? cards[k].tiles.keys() : [seen.channel];
    for (const map of all) markOn(k - 1, map, seen.top, seen.left, seen.height, seen.width, "mark window");
  }

  function markOn(k, map, top, left, high, wide, name) {
    const { tiles, width, height } = cards[k + 1];
    if (!tiles[map]) return;
    const [y0, x0] = [Math.max(top, 0), Math.max(left, 0)];
    const [y1, x1] = [Math.min(top + high, height), Math.min(left + wide, width)];
    const mark = el("span", { class: name, "aria-hidden": "true" });
    Object.assign(mark.style, {
      top: `${(100 * y0) / height}%`, left: `${(100 * x0) / width}%`,
      height: `${(100 * (y1 - y0)) / height}%`, width: `${(100 * (x1 - x0)) / width}%`,
    });
    tiles[map].tile.append(mark);
  }

  // ---- the way back ----------------------------------------------------------------------------------------------

  byId("target").append(...names.map((name, k) => el("option", { value: k, text: name })));
  const withMaps = data.layers.map((layer, k) => [layer, k]).filter(([layer]) => layer.out_shape.length === 3);
  byId("cam-layer").append(...withMaps.map(([layer, k]) => el("option", { value: k, text: layer.path })));

  function drawBack() {
    const target = names[now.target], { dx, loss } = now.back, area = H * W;
    byId("target").value = now.target;
    const p = Engine.probabilities(now.run.outputs.at(-1)).data[now.target];
    byId("loss").textContent = `loss = −log p(${target}) = −log ${p > 0.999 ? p.toPrecision(5) : number(p)} = ${number(loss)}`;
    const speaks = Float64Array.from({ length: area }, (_, i) => {
      let sum = 0;
      for (let c = 0; c < C; c++) sum -= dx.data[c * area + i];
      return sum;
    });
    Paint.signed(byId("speaks"), W, H, speaks, 0, area, Paint.greatest(speaks));
    const told = `Orange: more light here would make ${target} likelier. Blue: less likely.`;
    byId("speaks-note").textContent = `${told} The strongest moves the loss by ${number(Paint.greatest(speaks))} for each unit of light.`;
    byId("speaks").setAttribute("aria-label", `The gradient of the loss at each pixel. ${told}`);
    if (now.camLayer === null) return;
    byId("cam-layer").value = now.camLayer;
    byId("cam-class").textContent = target;
    Paint.overlay(byId("cam"), now.x, Engine.gradCam(now.network, now.run, now.camLayer, now.target, [H, W]));
    byId("cam").setAttribute("aria-label", `Grad-CAM for ${target}, of layer ${data.layers[now.camLayer].path}`);
  }

  const rate = () => 10 ** Number(byId("rate").value);
  const nextNetwork = () => Engine.stepped(now.network, now.back.params, rate());

  function drawStep() {
    const next = Engine.forward(nextNetwork(), now.x).outputs.at(-1);
    const before = Engine.probabilities(now.run.outputs.at(-1)).data, after = Engine.probabilities(next).data;
    const shown = new Set([...leading(before), now.target]);
    byId("rate-value").textContent = number(rate());
    const row = (name, from, to, bold) =>
      el("tr", { class: bold ? "best" : null }, el("th", { scope: "row", text: name }), ...[from, to].map((text) => el("td", { class: "number", text })));
    byId("step").replaceChildren(el("table", {},
      el("thead", {}, el("tr", {}, ...["", "before", "after"].map((text, i) => el("th", { text, scope: "col", class: i ? "number" : null })))),
      el("tbody", {},
        row("loss", number(now.back.loss), number(Engine.crossEntropy(next, now.target).value)),
        ...[...shown].sort((a, b) => a - b).map((k) => row(`p(${names[k]})`, percent(before[k]), percent(after[k]), k === now.target)))));
    byId("sure").hidden = now.back.loss > 0.01;
    byId("undo-steps").disabled = now.steps === 0;
    byId("steps").textContent = now.steps ? `${now.steps} ${now.steps === 1 ? "step" : "steps"} from the trained network; everything above is of the network as it is now.` : "";
  }

  function drawForward() {
    drawAnswer();
    cards.forEach((_, at) => drawCard(at - 1));
    drawUnit();
  }

  function drawBackward() {
    drawBack();
    drawStep();
  }

  function draw() {
    drawForward();
    drawBackward();
  }

  // ---- what can be done ------------------------------------------------------------------------------------------

  // Mark the test image that is on the paper, or none.
  function mark(chosen) {
    thumbnails.forEach((button, at) => button.setAttribute("aria-pressed", String(at === chosen)));
  }

  const thumbnails = examples.map(({ picture, label, said }, at) => {
    const canvas = el("canvas"), right = label === said;
    const name = `Test image ${at + 1}: ${names[label]}${right ? "" : `, taken for ${names[said]}`}`;
    const button = el("button", {
      class: right ? null : "wrong", title: name, "aria-label": name, "aria-pressed": "false", onclick: () => pick(at),
    }, canvas);
    Paint.picture(canvas, picture);
    return button;
  });
  byId("examples").append(...thumbnails);

  function pick(at) {
    paper.show(examples[at].picture);
    Object.assign(now, { label: examples[at].label, chosen: false });
    mark(at);
    update();
  }

  function press(on, off) {
    byId(on).setAttribute("aria-pressed", "true");
    byId(off).setAttribute("aria-pressed", "false");
  }

  async function open(file) {
    try {
      await paper.open(file);
    } catch {
      byId("verdict").textContent = `${file.name} is no picture that this browser reads; the paper is as it was.`;
      return;
    }
    Object.assign(now, { label: null, chosen: false });
    mark(null);
    update();
  }

  function listen() {
    const on = (id, event, handler) => byId(id).addEventListener(event, handler);
    on("pen", "click", () => { paper.pen.erases = false; press("pen", "eraser"); });
    on("eraser", "click", () => { paper.pen.erases = true; press("eraser", "pen"); });
    on("colour", "input", (event) => { paper.pen.colour = event.target.value; });
    on("fit", "change", (event) => { paper.setFits(event.target.checked); update(); });
    on("clear", "click", () => { paper.clear(); Object.assign(now, { label: null, chosen: false }); mark(null); update(); });
    on("file", "change", (event) => { if (event.target.files[0]) open(event.target.files[0]); event.target.value = ""; });
    const sheet = byId("paper");
    for (const name of ["dragover", "dragenter"])
      sheet.addEventListener(name, (event) => { event.preventDefault(); sheet.classList.add("over"); });
    sheet.addEventListener("dragleave", () => sheet.classList.remove("over"));
    sheet.addEventListener("drop", (event) => {
      event.preventDefault();
      sheet.classList.remove("over");
      if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
    });
    on("show-outputs", "click", () => { now.gradients = false; press("show-outputs", "show-gradients"); drawView(); });
    on("show-gradients", "click", () => { now.gradients = true; press("show-gradients", "show-outputs"); drawView(); });
    on("unit-close", "click", () => { now.unit = null; byId("unit").classList.remove("open"); drawUnit(); });
    on("target", "change", (event) => { Object.assign(now, { target: Number(event.target.value), chosen: true }); compute(); draw(); });
    on("cam-layer", "change", (event) => { now.camLayer = Number(event.target.value); drawBack(); });
    on("rate", "input", drawStep);
    on("take-step", "click", () => { now.network = nextNetwork(); now.steps += 1; compute(); draw(); });
    on("undo-steps", "click", () => { Object.assign(now, { network: trained, steps: 0 }); compute(); draw(); });
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") byId("unit-close").click(); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { Paint.readColours(); draw(); });
  }

  function drawView() {
    byId("view-note").textContent = now.gradients ? `how much the loss −log p(${names[now.target]}) changes with each number` : "";
    draw();
  }

  byId("title").textContent = data.title;
  byId("lead").textContent = data.lead;
  byId("fit-choice").hidden = data.fit === null;
  document.querySelector(".colour").hidden = C !== 3;
  const wrong = examples.filter(({ label, said }) => label !== said).length;
  byId("examples-heading").hidden = !examples.length;
  byId("examples-note").textContent = examples.length ? `${data.examples_note} A red frame: the network is wrong there (${wrong} of these ${examples.length}).` : "";
  byId("cam").closest("figure").hidden = now.camLayer === null;
  Paint.readColours();
  listen();
  if (examples.length) pick(0);
  else update();

  return { now, timing, data, examples, names, pick, select, backwards, drawForward };
})();
