// Data in script files: a page opened from disk may run scripts, but not fetch.
"use strict";
const tti = {
  waiting: new Map(),
  loaded: new Map(),

  /** Load `<folder>/<name>.js` once; returns a promise of the data that it delivers. */
  load(name, folder = "data") {
    if (!this.loaded.has(name)) {
      this.loaded.set(name, new Promise((resolve, reject) => {
        this.waiting.set(name, resolve);
        const script = document.createElement("script");
        script.src = `${folder}/${name.split("/").map(encodeURIComponent).join("/")}.js`;
        script.onerror = () => {
          this.loaded.delete(name);
          reject(new Error(`${name}.js is missing: was the whole folder copied?`));
        };
        document.head.append(script);
      }));
    }
    return this.loaded.get(name);
  },

  deliver(name, data) {
    this.waiting.get(name)(data);
    this.waiting.delete(name);
  },

  /** {dtype, shape, base64} -> typed array with `shape` and `row(i)`. */
  array(packed) {
    const types = { int8: Int8Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array,
                    int64: BigInt64Array, float32: Float32Array, float64: Float64Array };
    const raw = atob(packed.base64), bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    const values = new types[packed.dtype](bytes.buffer);
    values.shape = packed.shape;
    const size = packed.shape.slice(1).reduce((a, b) => a * b, 1);
    values.row = (i) => values.subarray(i * size, (i + 1) * size);
    return values;
  },
};

/** An element: el("p", {class: "note"}, "text", child). */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A number with about four significant digits. */
function figure(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}
