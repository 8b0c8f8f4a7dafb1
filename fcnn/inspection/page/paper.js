// The paper: what is drawn, dropped or picked, as the picture [C, H, W] of numbers from 0 to 1 that the network sees.
"use strict";

const Paper = (() => {
  const INK = 0.2; // of the strongest ink: what counts for a figure's box, above the noise
  const SIDE = 240; // pixels of the paper, about: all of them are looked at after each stroke
  const MOST_SIDE = 1000; // pixels of an opened picture that are looked at

  // `cursor` shows where the keyboard's pen is; `fit` says how a figure is centred and scaled, {box, by_mass}, or is null.
  function make(canvas, cursor, [C, H, W], fit, changed) {
    const scale = Math.max(1, Math.floor(SIDE / Math.max(H, W)));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    Object.assign(canvas, { width: W * scale, height: H * scale });
    const pen = { erases: false, colour: "#ffffff", down: false, row: H / 2, column: W / 2 };
    let fits = fit !== null;
    let exact = null; // a picture that is taken as it is,
    let opened = null; // or the grey of an opened one, finer than the paper: until something is drawn on it

    function clear() {
      exact = opened = null;
      context.fillStyle = "#000";
      context.fillRect(0, 0, canvas.width, canvas.height);
    }

    // From one place to another, in pixels of the picture.
    function stroke(from, to) {
      exact = opened = null;
      context.strokeStyle = pen.erases ? "#000" : pen.colour;
      context.lineWidth = (pen.erases ? 4 : 2.2) * scale * (Math.min(H, W) / 28);
      context.lineCap = context.lineJoin = "round";
      context.beginPath();
      context.moveTo(from[0] * scale, from[1] * scale);
      context.lineTo(to[0] * scale, to[1] * scale + 0.01); // a point, too, leaves a dot
      context.stroke();
    }

    // Take a picture [C, H, W] as it is, and show it to draw on.
    function show(picture) {
      clear();
      exact = picture;
      const small = document.createElement("canvas");
      Paint.picture(small, picture);
      context.imageSmoothingEnabled = false;
      context.drawImage(small, 0, 0, canvas.width, canvas.height);
    }

    // What the network sees.
    function picture() {
      if (exact) return exact;
      const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
      if (C === 1) {
        const drawn = { grey: greyOf(data), width: canvas.width };
        return { shape: [C, H, W], data: fits ? fitted(opened ?? drawn, H, fit) : shrunk(drawn, H, W) };
      }
      const found = new Float64Array(C * H * W);
      for (let c = 0; c < C; c++) {
        const channel = Float64Array.from({ length: data.length / 4 }, (_, i) => data[4 * i + c] / 255);
        found.set(shrunk({ grey: channel, width: canvas.width }, H, W), c * H * W);
      }
      return { shape: [C, H, W], data: found };
    }

    // Open a picture from a file: a Promise, which fails where the browser can't read it.
    async function open(file) {
      const bitmap = await createImageBitmap(file);
      const share = Math.min(1, MOST_SIDE / Math.max(bitmap.width, bitmap.height));
      const width = Math.max(1, Math.round(bitmap.width * share)), height = Math.max(1, Math.round(bitmap.height * share));
      const sheet = document.createElement("canvas");
      Object.assign(sheet, { width, height });
      const on = sheet.getContext("2d", { willReadFrequently: true });
      on.fillStyle = "#fff"; // where it is transparent
      on.fillRect(0, 0, width, height);
      on.drawImage(bitmap, 0, 0, width, height);
      let grey = null;
      if (C === 1) {
        const image = on.getImageData(0, 0, width, height);
        grey = lightOnDark(greyOf(image.data), width);
        grey.forEach((value, i) => image.data.fill(Math.round(value * 255), 4 * i, 4 * i + 3));
        on.putImageData(image, 0, 0);
        if (width === W && height === H) {
          show({ shape: [C, H, W], data: grey });
          return;
        }
      }
      clear();
      // Grey figures whole, as the box is cut out anyway; of colour the middle square.
      const part = (C === 1 ? Math.min : Math.max)(canvas.width / width, canvas.height / height);
      const [w, h] = [width * part, height * part];
      context.imageSmoothingEnabled = true;
      context.imageSmoothingQuality = "high";
      context.drawImage(sheet, (canvas.width - w) / 2, (canvas.height - h) / 2, w, h);
      opened = grey && { grey, width };
    }

    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * W, ((event.clientY - box.top) / box.height) * H];
    };
    let last = null;
    let finger = null; // the one that draws
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || last) return;
      canvas.setPointerCapture(event.pointerId);
      finger = event.pointerId;
      cursor.hidden = true;
      last = place(event);
      stroke(last, last);
      changed(event.timeStamp);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last || event.pointerId !== finger) return;
      const events = event.getCoalescedEvents?.() ?? [];
      for (const each of events.length ? events : [event]) {
        const to = place(each);
        stroke(last, to);
        last = to;
      }
      changed(event.timeStamp);
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => {
        if (event.pointerId === finger) last = null;
      });
    canvas.addEventListener("blur", () => (cursor.hidden = true));
    canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      if (event.key === " ") pen.down = !pen.down;
      else if (!(event.key in steps)) return;
      event.preventDefault();
      const from = [pen.column, pen.row], [down, across] = steps[event.key] ?? [0, 0];
      pen.row = Math.min(Math.max(pen.row + down, 0.5), H - 0.5);
      pen.column = Math.min(Math.max(pen.column + across, 0.5), W - 0.5);
      if (pen.down) stroke(from, [pen.column, pen.row]);
      cursor.hidden = false;
      cursor.style.left = `${(100 * pen.column) / W}%`;
      cursor.style.top = `${(100 * pen.row) / H}%`;
      tell();
      if (pen.down) changed(event.timeStamp);
    });
    function tell() {
      const where = `row ${Math.floor(pen.row) + 1}, column ${Math.floor(pen.column) + 1}`;
      canvas.setAttribute("aria-label", `Drawing area of ${H} by ${W}; pen ${pen.down ? "down" : "up"} at ${where}`);
    }
    tell();
    clear();
    return { pen, clear, show, picture, open, setFits: (value) => (fits = value && fit !== null) };
  }

  // The lightness of RGBA pixels, from 0 to 1.
  function greyOf(data) {
    const grey = new Float64Array(data.length / 4);
    for (let i = 0; i < grey.length; i++)
      grey[i] = (0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]) / 255;
    return grey;
  }

  // Light figure on dark: inverted if the border's median is nearer to the lightest, and the background made 0.
  function lightOnDark(grey, width) {
    const height = grey.length / width, border = [];
    for (let x = 0; x < width; x++) border.push(grey[x], grey[grey.length - width + x]);
    for (let y = 0; y < height; y++) border.push(grey[y * width], grey[y * width + width - 1]);
    let background = border.sort((a, b) => a - b)[border.length >> 1];
    const least = grey.reduce((a, b) => Math.min(a, b)), most = grey.reduce((a, b) => Math.max(a, b));
    const inverts = background > (least + most) / 2, top = inverts ? 1 - least : most;
    if (inverts) background = 1 - background;
    return grey.map((value) => Math.min(Math.max(((inverts ? 1 - value : value) - background) / (top - background || 1), 0), 1));
  }

  // The mean over a box of an image `width` wide; its edges may lie within pixels.
  function mean(image, width, top, left, bottom, right) {
    let sum = 0, area = 0;
    for (let y = Math.floor(top); y < bottom; y++) {
      const high = Math.min(y + 1, bottom) - Math.max(y, top);
      for (let x = Math.floor(left); x < right; x++) {
        const part = high * (Math.min(x + 1, right) - Math.max(x, left));
        sum += part * image[y * width + x];
        area += part;
      }
    }
    return area > 0 ? sum / area : 0;
  }

  // An image, or a box of it, in H x W pixels: each the mean of what it covers.
  function shrunk({ grey, width }, H, W, box = [0, 0, grey.length / width, width]) {
    const [top, left, bottom, right] = box, down = (bottom - top) / H, across = (right - left) / W;
    return Float64Array.from({ length: H * W }, (_, at) => {
      const y = top + Math.floor(at / W) * down, x = left + (at % W) * across;
      return mean(grey, width, y, x, Math.min(y + down, bottom), Math.min(x + across, right));
    });
  }

  // Rounded, a half to the even side, as Python does.
  const even = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

  // MNIST's recipe, as fcnn.data.pictures has it: the figure's box scaled, its ink to 1, its mass (or box) in the middle.
  function fitted(image, H, { box, by_mass }) {
    const { grey, width } = image, height = grey.length / width, found = new Float64Array(H * H);
    const most = Paint.greatest(grey);
    if (!most) return found;
    let [top, left, bottom, right] = [height, width, 0, 0];
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        if (grey[y * width + x] <= INK * most) continue;
        top = Math.min(top, y);
        left = Math.min(left, x);
        bottom = y + 1;
        right = Math.max(right, x + 1);
      }
    const longest = Math.max(bottom - top, right - left), scaled = (length) => Math.max(1, even((box * length) / longest));
    const h = scaled(bottom - top), w = scaled(right - left);
    const small = shrunk(image, h, w, [top, left, bottom, right]), strongest = small.reduce((a, b) => Math.max(a, b));
    let mass = 0, row = 0, column = 0;
    small.forEach((value, at) => {
      mass += value;
      row += value * Math.floor(at / w);
      column += value * (at % w);
    });
    const corner = by_mass ? [H / 2 - row / mass, H / 2 - column / mass] : [(H - h) / 2, (H - w) / 2];
    const [y0, x0] = corner.map((at, axis) => Math.min(Math.max(even(at), 0), H - [h, w][axis]));
    small.forEach((value, at) => (found[(y0 + Math.floor(at / w)) * H + x0 + (at % w)] = value / strongest));
    return found;
  }

  return { make };
})();
