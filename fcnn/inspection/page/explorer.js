// The page: what is drawn goes through the network, forward and back, and every layer shows what it made of it.
"use strict";

const explorer = (() => {
  const { el, number, percent, byId } = Dom;
  const MOST_ROWS = 12; // classes of a table
  const PAUSE = 400; // milliseconds after which what is drawn is taken to be finished

  const data = JSON.parse(byId("data").textContent);
  const [C, H, W] = data.in_shape;

  // Numbers of the page's data: little-endian bytes in base64.
  function decoded({ shape, dtype, data: text }) {
    const letters = atob(text), bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    const kind = { float32: Float32Array, float64: Float64Array, uint8: Uint8Array }[dtype];
    return { shape, data: new Float64Array(new kind(bytes.buffer)) };
  }
  const arrays = (named) => Object.fromEntries(Object.entries(named).map(([name, array]) => [name, decoded(array)]));
  const trained = data.layers.map((layer) => ({ ...layer, params: arrays(layer.params), state: arrays(layer.state) }));
  const names = data.classes;
  // As the library makes uint8 into float32.
  const examples = data.examples.map(({ x, ...notes }) => {
    const image = decoded(x);
    return { ...notes, picture: { shape: image.shape, data: x.dtype === "uint8" ? image.data.map((value) => Math.fround(value / 255)) : image.data } };
  });

  // All that changes. `run` and `back` are of the picture and the network as they are.
  const now = {
    network: trained, steps: 0, x: null, label: null, target: 0, chosen: false, gradients: false, unit: null,
    run: null, back: null, camLayer: data.cam,
  };

  const paper = Paper.make(byId("paper"), byId("pen-at"), data.in_shape, data.fit, (stamp) => {
    now.label = null;
    mark(null);
    later(stamp);
  });

  // ---- computing -------------------------------------------------------------------------------------------------

  // What a stroke took, in milliseconds: to compute and draw every layer, and from the pen's own time on.
  const timing = { milliseconds: 0, fromEvent: 0 };
  let waiting = false, resting = 0;

  // Once a frame, however many strokes there were: every layer; and the way back in the next frame, or where a network is
  // slow when the pen rests.
  function later(stamp) {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const began = performance.now();
      now.x = paper.picture();
      forward();
      if (now.gradients) backward();
      drawForward();
      timing.milliseconds = performance.now() - began;
      timing.fromEvent = performance.now() - stamp;
      clearTimeout(resting);
      resting = setTimeout(() => {
        backward();
        drawUnit();
        drawBackward();
      }, timing.milliseconds > 30 ? PAUSE : 0);
    });
  }

  function update() {
    now.x = paper.picture();
    compute();
    draw();
  }

  function compute() {
    forward();
    backward();
  }

  function forward() {
    now.run = Engine.forward(now.network, now.x);
    if (!now.chosen) now.target = now.label ?? indexOfGreatest(now.run.outputs.at(-1).data);
  }

  function backward() {
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
    const shown = new Set([...leading(p), ...(now.label === null ? [] : [now.label])]);
    rows.forEach(({ row, fill, share }, k) => {
      row.hidden = !shown.has(k);
      row.classList.toggle("best", k === best);
      fill.style.width = `${100 * p[k]}%`;
      share.textContent = percent(p[k]);
    });
    const empty = now.x.data.every((value) => value === 0);
    const truth = now.label === null ? "" : now.label === best ? " That is right." : ` That is wrong: it is ${names[now.label]}.`;
    const text = empty ? "The paper is empty. Draw something." : `It says ${names[best]}, with ${percent(p[best])}.${truth}`;
    byId("verdict").textContent = text;
    announce(text);
  }

  // The classes that a table has room for, in their own order.
  function leading(p) {
    const order = [...p.keys()].sort((a, b) => p[b] - p[a]);
    return order.slice(0, MOST_ROWS).sort((a, b) => a - b);
  }

  // Tell a screen reader, once what is going on has paused.
  let telling = 0;
  function announce(text) {
    clearTimeout(telling);
    telling = setTimeout(() => (byId("said").textContent = text), PAUSE);
  }

  // ---- the layers, and one number of them ------------------------------------------------------------------------

  const cards = Cards.make(byId("layers"), data.in_shape, data.layers, names, {
    select, explain: () => byId("unit").focus(), redraw: () => draw(),
  });

  function drawCards() {
    for (let k = -1; k < data.layers.length; k++) {
      const numbers = now.gradients ? (k < 0 ? now.back.dx : now.back.gradients[k]).data : k < 0 ? null : now.run.outputs[k].data;
      cards.draw(k, numbers, now.x);
    }
  }

  function select(k, index) {
    now.unit = { k, index };
    document.body.classList.add("explains");
    drawUnit();
    byId("unit").scrollTop = 0;
    announce(byId("unit-body").querySelector("p").textContent);
    if (!matchMedia("(max-width: 60rem)").matches) return;
    cards.mark(now.network, k, index)?.scrollIntoView({ block: "center", behavior: "instant" });
    // The sheet covers the lower half.
    const { top } = document.querySelector(".mark").getBoundingClientRect(), room = innerHeight * 0.36;
    if (top > room) scrollBy({ top: top - room / 2, behavior: "instant" });
  }

  function drawUnit() {
    if (!now.unit) return;
    const { k, index } = now.unit;
    cards.mark(now.network, k, index);
    byId("unit-body").replaceChildren(...Unit.explain(now.network, k, index, inputs(), now.run.outputs, now.back.gradients, names));
  }

  function closeUnit() {
    if (!now.unit) return;
    cards.focus(now.unit.k);
    now.unit = null;
    cards.mark(now.network, null);
    document.body.classList.remove("explains");
    byId("unit-body").replaceChildren(el("p", { text: "Click a map of a layer to see how a number is made." }));
  }

  // ---- the way back ----------------------------------------------------------------------------------------------

  byId("target").append(...names.map((name, k) => el("option", { value: k, text: name })));
  const withMaps = data.layers.map((layer, k) => [layer, k]).filter(([layer]) => layer.out_shape.length === 3);
  byId("cam-layer").append(...withMaps.map(([layer, k]) => el("option", { value: k, text: layer.path })));

  function drawBack() {
    const target = names[now.target], { dx, loss } = now.back, area = H * W;
    byId("view-note").textContent = now.gradients
      ? `How the loss −log p(${target}) changes with each number: orange, more of it makes the loss greater; blue, smaller.` : "";
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
    byId("rate").setAttribute("aria-valuetext", number(rate()));
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
    drawCards();
    if (now.back) drawUnit();
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
    thumbnails.forEach((button, at) => {
      button.setAttribute("aria-pressed", String(at === chosen));
      button.tabIndex = at === (chosen ?? 0) ? 0 : -1;
    });
  }

  const thumbnails = examples.map(({ picture, label, said }, at) => {
    const canvas = el("canvas"), right = label === said;
    const name = `Test image ${at + 1}: ${names[label]}${right ? "" : `, taken for ${names[said]}`}`;
    const button = el("button", {
      class: right ? null : "wrong", title: name, "aria-label": name, "aria-pressed": "false", onclick: () => pick(at),
    }, canvas);
    canvas.style.aspectRatio = `${W} / ${H}`;
    Paint.picture(canvas, picture);
    return button;
  });
  byId("examples").append(...thumbnails);
  byId("examples").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -thumbnails.length, End: thumbnails.length }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = Math.min(Math.max(thumbnails.indexOf(document.activeElement) + step, 0), thumbnails.length - 1);
    thumbnails[at].focus();
  });

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
    on("show-outputs", "click", () => { now.gradients = false; press("show-outputs", "show-gradients"); draw(); });
    on("show-gradients", "click", () => { now.gradients = true; press("show-gradients", "show-outputs"); draw(); });
    on("unit-close", "click", closeUnit);
    on("target", "change", (event) => { Object.assign(now, { target: Number(event.target.value), chosen: true }); compute(); draw(); });
    on("cam-layer", "change", (event) => { now.camLayer = Number(event.target.value); drawBack(); });
    on("rate", "input", drawStep);
    on("take-step", "click", () => { now.network = nextNetwork(); now.steps += 1; compute(); draw(); });
    on("undo-steps", "click", () => { Object.assign(now, { network: trained, steps: 0 }); compute(); draw(); });
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") closeUnit(); });
    // A file that is dropped beside the paper would replace the page.
    for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { Paint.readColours(); draw(); });
  }

  byId("title").textContent = data.title;
  byId("lead").textContent = data.lead;
  const kinds = new Set(data.layers.map(({ kind }) => kind));
  byId("norm-note").hidden = !kinds.has("batch_norm");
  byId("drop-note").hidden = !kinds.has("dropout");
  byId("fit-choice").hidden = data.fit === null;
  document.querySelector(".colour").hidden = C !== 3;
  const wrong = examples.filter(({ label, said }) => label !== said).length;
  byId("examples-heading").hidden = !examples.length;
  byId("examples-note").textContent = examples.length ? `${data.examples_note} A red frame: the network is wrong there (${wrong} of these ${examples.length}).` : "";
  byId("cam").closest("figure").hidden = now.camLayer === null;
  for (const id of ["paper", "speaks", "cam"]) byId(id).style.aspectRatio = `${W} / ${H}`;
  Paint.readColours();
  listen();
  if (examples.length) pick(0);
  else update();

  return { now, timing, trained, examples, pick, select, backwards };
})();
