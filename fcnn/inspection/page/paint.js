// Numbers as colours: small arrays onto canvases, 0 in the page's own colour.
"use strict";

const Paint = (() => {
  const STEPS = 255;
  let table = []; // 2 * STEPS + 1 colours as one number each, from -1 to 1
  const grey = Array.from({ length: 256 }, (_, level) => 0xff000000 | (level * 0x10101));

  // Read the colours of the scheme that is in force, light or dark.
  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const [against, zero, speaks] = ["--against", "--zero", "--for"].map((name) => {
      const hex = style.getPropertyValue(name).trim();
      return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    });
    table = Array.from({ length: 2 * STEPS + 1 }, (_, at) => {
      const share = Math.abs(at - STEPS) / STEPS, to = at < STEPS ? against : speaks;
      const [red, green, blue] = zero.map((from, i) => Math.round(from + (to[i] - from) * share));
      return (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
    });
  }

  function greatest(data) {
    let most = 0;
    for (let i = 0; i < data.length; i++) most = Math.max(most, Math.abs(data[i]));
    return most;
  }

  // The colour of a number where `most` is the strongest.
  function colour(value, most) {
    const share = most > 0 ? Math.min(Math.max(value / most, -1), 1) : 0;
    return table[Math.round(share * STEPS) + STEPS];
  }

  const css = (number) => `rgb(${number & 255} ${(number >> 8) & 255} ${(number >> 16) & 255})`;

  // Black or white, whichever is easier to read on a colour, by WCAG's contrast.
  function inkOn(number) {
    const linear = (byte) => (byte / 255 <= 0.04045 ? byte / 255 / 12.92 : ((byte / 255 + 0.055) / 1.055) ** 2.4);
    const light = 0.2126 * linear(number & 255) + 0.7152 * linear((number >> 8) & 255) + 0.0722 * linear((number >> 16) & 255);
    return light > 0.179 ? "#000" : "#fff";
  }

  function put(canvas, width, height, pixel) {
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const image = new ImageData(width, height), pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < pixels.length; i++) pixels[i] = pixel(i);
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  // data from `begin` on, `count` numbers row by row; what the last row lacks is left clear.
  const signed = (canvas, width, height, data, begin, count, most) =>
    put(canvas, width, height, (i) => (i < count ? colour(data[begin + i], most) : 0));

  const level = (value) => Math.round(Math.min(Math.max(value, 0), 1) * 255);

  // A picture [C, H, W] of numbers from 0 to 1, or one channel of it.
  function picture(canvas, { shape: [C, H, W], data }, channel = null) {
    const area = H * W;
    if (C === 3 && channel === null)
      put(canvas, W, H, (i) =>
        (0xff000000 | (level(data[2 * area + i]) << 16) | (level(data[area + i]) << 8) | level(data[i])) >>> 0);
    else put(canvas, W, H, (i) => grey[level(data[(channel ?? 0) * area + i])]);
  }

  // A picture in grey, and over it shares from 0 to 1 in the colour of what speaks for.
  function overlay(canvas, { shape: [C, H, W], data }, shares) {
    const area = H * W, warm = table[2 * STEPS];
    put(canvas, W, H, (i) => {
      let sum = 0;
      for (let c = 0; c < C; c++) sum += data[c * area + i];
      const base = level(sum / C), share = 0.75 * shares.data[i];
      const mix = (shift) => Math.round(base + (((warm >> shift) & 255) - base) * share) << shift;
      return (0xff000000 | mix(16) | mix(8) | mix(0)) >>> 0;
    });
  }

  return { readColours, greatest, colour, css, inkOn, signed, picture, overlay };
})();
