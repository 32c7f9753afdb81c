// A page of its own: the same widget without a kernel, on panels that were packed beforehand.

/** @param {number} bits of a float16 @returns {number} */
export function half(bits) {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size = exponent === 31 ? (fraction ? NaN : Infinity) : exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24;
  return bits >> 15 ? -size : size;
}

/**
 * Unpack what `widget/exported_page.py` packed: the length of a JSON text, the text, and the bytes that it points into.
 * @param {string} packed in base64, compressed
 * @returns {Promise<{state: object, panels: object, other: object, buffers: DataView[]}>}
 */
export async function unpacked(packed) {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const all = await new Response(stream).arrayBuffer();
  const start = 4 + new DataView(all).getUint32(0, true);
  const view = ([offset, length]) => new DataView(all, start + offset, length);
  const revived = (_, value) => {
    if (value?.$bytes) return view(value.$bytes);
    if (!value?.$halves) return value;
    const halves = view(value.$halves);
    const values = Float32Array.from({ length: halves.byteLength / 2 }, (_, i) => half(halves.getUint16(2 * i, true)) * value.scale);
    return new DataView(values.buffer);
  };
  return JSON.parse(new TextDecoder().decode(new Uint8Array(all, 4, start - 4)), revived);
}

/** @returns {object} what the widget takes for its model: it answers as a kernel would, from what was packed */
export function standIn({ state, panels, other, buffers }) {
  const listeners = {};
  const tell = (name, ...said) => { for (const listener of listeners[name] ?? []) listener(...said); };
  const tellPanel = () => {
    const key = state.selected;
    const panel = key in panels ? panels[key] : { ...other, title: key };
    if (key !== null) tell("msg:custom", { tell: "panel", key, panel }, buffers);
  };
  return {
    get: (name) => state[name],
    set(name, value) {
      state[name] = value;
      tell(`change:${name}`);
      if (name === "selected") tellPanel();
    },
    save_changes() {},
    on: (name, listener) => (listeners[name] ??= new Set()).add(listener),
    off: (name, listener) => listeners[name]?.delete(listener),
    send: ({ ask }) => { if (ask === "panel") tellPanel(); },
  };
}
