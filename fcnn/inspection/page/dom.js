// Elements and numbers as a page shows them. Text from a model's file is only ever set as text, never as HTML.
"use strict";

const Dom = (() => {
  // An element: `attributes` are set as such, but for on… (listeners), and `text`; null leaves one out.
  function el(name, attributes = {}, ...children) {
    const found = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === null || value === false) continue;
      if (key.startsWith("on")) found.addEventListener(key.slice(2), value);
      else if (key === "text") found.textContent = value;
      else found.setAttribute(key, value === true ? "" : value);
    }
    found.append(...children.filter((child) => child !== null && child !== undefined));
    return found;
  }

  // Three digits that count, with a real minus; a whole number as such.
  function number(value) {
    if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value).replace("-", "−");
    const size = Math.abs(value);
    const text = size >= 1e5 || size < 1e-3 ? value.toExponential(1) : value.toPrecision(size >= 1000 ? 4 : 3);
    return text.replace("-", "−").replace(/e([+−-]?)(\d+)/, (_, sign, digits) => `e${sign === "+" ? "" : "−"}${digits}`);
  }

  // At most five characters, for the cells of a grid.
  function short(value) {
    const size = Math.abs(value);
    if (size < 0.005) return "0";
    const text = size >= 1000 ? value.toExponential(0) : size >= 100 ? value.toFixed(0) : value.toFixed(size >= 10 ? 1 : 2);
    return text.replace("-", "−").replace(/^(−?)0\./, "$1.");
  }

  // Terms and their sum, with as many decimals each, so that they add up but for the last digit.
  function alike(values) {
    const most = Math.max(...values.map(Math.abs), 1e-12), decimals = Math.min(Math.max(3 - Math.floor(Math.log10(most)), 0), 12);
    return values.map((value) => (Math.abs(value) < 0.5 * 10 ** -decimals ? 0 : value).toFixed(decimals).replace("-", "−"));
  }

  const percent = (share) => (share > 0.9995 && share < 1 ? ">99.9 %" : share > 0 && share < 0.0005 ? "<0.1 %" : `${(100 * share).toFixed(1)} %`);
  const times = (shape) => shape.join("×");
  const byId = (id) => document.getElementById(id);

  return { el, number, short, alike, percent, times, byId };
})();
