// The techniques beside each other: crops with one zoom for all, a table that sorts, bars. Body of a function of gradio's
// gr.HTML with `element`, `props`, `watch` and `trigger`; CompareTab in compare_tab.py says what `props.value` holds.
const MAX_SCALE = 16, STEP = 1.5, MAX_GAIN = 20;
const COLUMNS = [  // of the table: key, label, digits, whether less is better
  ["label", "Technique", null, true], ["psnr", "PSNR", 2, false], ["ssim", "SSIM", 3, false],
  ["edge_fidelity", "Edges", 2, false], ["seconds", "Time", 2, true],
];
const root = element.querySelector(".comparison");
const find = (selector) => root.querySelector(selector);
const crops = find(".crops"), note = find(".comparison-note");
const view = { mode: "pictures", scale: undefined, x: 0.5, y: 0.5, sort: "psnr", reversed: false };
const pictures = new Map();  // path -> its ImageData, or the promise of it
let value = null;            // what is shown

// -- what is chosen ---------------------------------------------------------------------------------------------------

const chooser = () => document.querySelector("#chooser .chooser");
const ranges = () => [...chooser().querySelectorAll("input[type=range]")];
window.readChoice = () => {
  if (!chooser()) return "";
  const techniques = [...chooser().querySelectorAll("input[type=checkbox]:checked")].map((box) => box.name);
  const parameters = {};
  for (const range of ranges())
    if (range.dataset.moved) (parameters[range.dataset.technique] ??= {})[range.dataset.parameter] = Number(range.value);
  return JSON.stringify({ techniques, parameters });
};
function follow(range, rules) {  // the rule of the noise level, unless it was moved
  if (!range.dataset.moved && rules) range.value = rules[range.dataset.technique][range.dataset.parameter];
  range.parentElement.querySelector("output").textContent = Number(Number(range.value).toPrecision(3));
  const { technique, parameter } = range.dataset;
  chooser().querySelector(`[data-reset="${technique} ${parameter}"]`).hidden = !range.dataset.moved;
}
let later;
function chosen() {  // one run for several changes in a row
  clearTimeout(later);
  later = setTimeout(() => trigger("input"), 300);
}
function connect() {
  chooser().addEventListener("input", (event) => {
    if (event.target.matches("[type=range]")) {
      event.target.dataset.moved = "yes";
      follow(event.target);
      chooser().querySelector(`[name="${event.target.dataset.technique}"]`).checked = true;
    }
  });
  chooser().addEventListener("change", chosen);
  chooser().addEventListener("click", (event) => {
    const more = event.target.closest(".more");
    if (more) {
      const open = more.getAttribute("aria-expanded") !== "true";
      more.setAttribute("aria-expanded", open);
      document.getElementById(more.getAttribute("aria-controls")).hidden = !open;
    }
    const [technique, parameter] = (event.target.dataset.reset ?? "").split(" ");
    if (!technique) return;
    const range = ranges().find((one) => one.dataset.technique === technique && one.dataset.parameter === parameter);
    delete range.dataset.moved;
    follow(range, value?.rules);
    range.focus();
    chosen();
  });
}

// -- pictures ---------------------------------------------------------------------------------------------------------

async function load(path) {
  const image = new Image();
  image.src = window.fileAddress(path);
  await image.decode();
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
const gain = () => Math.max(1, Math.min(MAX_GAIN, Math.round(127 / (3 * value.sigma))));  // the same for all
function paint(canvas, path, minuend, map) {
  const shown = [path, minuend, map].join();
  if (canvas.dataset.shown === shown) return;
  const now = pictures.get(path), first = pictures.get(minuend), over = pictures.get(map);
  if (!now || (minuend && !first)) return;
  const data = new ImageData(new Uint8ClampedArray(now.data), now.width, now.height);
  if (first)
    for (let i = 0; i < data.data.length; i += 1)  // the array clamps to 0..255
      if (i % 4 !== 3) data.data[i] = 128 + gain() * (first.data[i] - now.data[i]);
  if (over)
    for (let i = 0; i < data.data.length; i += 4)
      for (let c = 0; c < 3; c += 1)
        data.data[i + c] += (over.data[i + c] - data.data[i + c]) * (over.data[i + 3] / 255);
  [canvas.width, canvas.height] = [now.width, now.height];
  canvas.getContext("2d").putImageData(data, 0, 0);
  canvas.dataset.shown = shown;
}
function tile(name) {
  let figure = crops.querySelector(`figure[data-name="${CSS.escape(name)}"]`);
  if (!figure) {
    figure = document.createElement("figure");
    figure.dataset.name = name;
    const frame = Object.assign(document.createElement("div"), { className: "crop-frame" });
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    frame.append(canvas);
    const caption = document.createElement("figcaption");
    caption.append(document.createElement("span"), document.createElement("b"));
    figure.append(frame, caption, Object.assign(document.createElement("div"), { className: "crop-histogram" }));
  }
  return figure;
}
function drawTiles() {
  const minuend = { removed: value.noisy.path, missing: value.clean?.path }[view.mode];
  const all = [
    { name: "noisy", label: "Noisy", ...value.noisy },
    ...(value.clean ? [{ name: "clean", label: "Clean", ...value.clean }] : []),
    ...value.rows,
  ];
  const figures = all.map((row) => {
    const figure = tile(row.name), canvas = figure.querySelector("canvas");
    const [label, number] = figure.querySelectorAll("figcaption > *");
    const plain = row.name === "clean" || (row.name === "noisy" && view.mode === "removed");
    const own = view.mode === "removed" ? row.map : undefined;  // where structure was removed
    const shown = (view.mode === "uncertain" && row.uncertainty) || row.path;
    if (shown) paint(canvas, shown, plain ? undefined : minuend, own);
    canvas.setAttribute("aria-label", row.label);
    canvas.hidden = !row.path;
    const histogram = figure.querySelector(".crop-histogram");
    histogram.hidden = view.mode !== "removed" || !row.histogram;
    if (!histogram.hidden) histogram.innerHTML = row.histogram;  // of a template that escapes
    label.textContent = row.label;
    number.textContent = figureOf(row);
    number.classList.toggle("sentence", ["removed", "uncertain"].includes(view.mode));
    figure.classList.toggle("computing", row.name === value.running);
    figure.classList.toggle("waiting", !row.path);
    return figure;
  });
  if ([...crops.children].some((one, index) => one !== figures[index]) || crops.children.length !== figures.length)
    crops.replaceChildren(...figures);
  place();
}
function figureOf(row) {
  if (row.error) return "failed";
  if (!row.path) return row.name === value.running ? "computing …" : value.running ? "waiting" : "";
  if (view.mode === "uncertain") return row.uncertain ?? "";
  if (view.mode === "removed") return row.verdict?.split(/[.](?= |$)/)[0] ?? "";
  if (row.low) return estimate(row);
  return row.psnr === undefined || row.psnr === null ? "" : `${value.clean ? "" : "≈ "}${row.psnr.toFixed(2)} dB`;
}

// -- one zoom and position for all ------------------------------------------------------------------------------------

const clamp = (number, low, high) => Math.min(Math.max(number, low), high);
const frameBox = () => crops.querySelector(".crop-frame")?.getBoundingClientRect();
const fitScale = () => Math.min(frameBox().width / value.width, frameBox().height / value.height);
function place() {
  const box = value && frameBox();
  if (!box?.width) return;
  if (view.scale === undefined) view.scale = fitScale() > 1 ? null : 1;  // small ones are shown larger
  const scale = view.scale ?? fitScale(), width = value.width * scale, height = value.height * scale;
  const half = [Math.min(0.5, box.width / 2 / width), Math.min(0.5, box.height / 2 / height)];
  view.x = clamp(view.x, half[0], 1 - half[0]);
  view.y = clamp(view.y, half[1], 1 - half[1]);
  const left = Math.round(box.width / 2 - view.x * width), top = Math.round(box.height / 2 - view.y * height);
  for (const canvas of crops.querySelectorAll("canvas")) {
    canvas.style.cssText = `width:${width}px;height:${height}px;transform:translate(${left}px,${top}px)`;
    canvas.style.imageRendering = scale * devicePixelRatio >= 2 ? "pixelated" : "auto";
  }
  const percent = `${Math.round(scale * 100)} %`;
  if (find(".viewer-percent").textContent !== percent) find(".viewer-percent").textContent = percent; // it is read aloud
}
function zoom(factor) {
  view.scale = factor === null ? null : clamp((view.scale ?? fitScale()) * factor, fitScale() / 2, MAX_SCALE);
  place();
}
function pan(dx, dy) {
  const scale = view.scale ?? fitScale();
  view.x -= dx / (value.width * scale);
  view.y -= dy / (value.height * scale);
  place();
}
crops.addEventListener("pointerdown", (event) => {
  if (!value || event.button || event.pointerType === "touch") return;
  event.preventDefault();
  crops.focus({ preventScroll: true });
  crops.setPointerCapture(event.pointerId);
  const move = (moved) => pan(moved.movementX, moved.movementY);
  crops.addEventListener("pointermove", move);
  for (const name of ["pointerup", "pointercancel"])
    crops.addEventListener(name, () => crops.removeEventListener("pointermove", move), { once: true });
});
crops.addEventListener("wheel", (event) => {
  if (!event.ctrlKey || !value) return;  // the page scrolls
  event.preventDefault();
  zoom(2 ** (-event.deltaY / 300));
}, { passive: false });
let pinch = null;
crops.addEventListener("touchmove", (event) => {
  if (event.touches.length !== 2 || !value) return;  // one finger scrolls the page
  event.preventDefault();
  const [a, b] = event.touches;
  const now = { x: (a.clientX + b.clientX) / 2, y: (a.clientY + b.clientY) / 2, size: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) };
  if (pinch) {
    zoom(now.size / pinch.size);
    pan(now.x - pinch.x, now.y - pinch.y);
  }
  pinch = now;
}, { passive: false });
for (const name of ["touchstart", "touchend", "touchcancel"]) crops.addEventListener(name, () => (pinch = null), { passive: true });
const shortcuts = {
  "+": () => zoom(STEP), "=": () => zoom(STEP), "-": () => zoom(1 / STEP), 0: () => zoom(null),
  ArrowLeft: () => pan(40, 0), ArrowRight: () => pan(-40, 0), ArrowUp: () => pan(0, 40), ArrowDown: () => pan(0, -40),
};
crops.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !value || !shortcuts[event.key]) return;
  event.preventDefault();
  shortcuts[event.key]();
});
root.addEventListener("click", (event) => {
  const { mode, zoom: how, do: what, sort } = event.target.closest("button")?.dataset ?? {};
  if (what === "cancel") {  // it ends with the technique that is computed now
    const [, text, cancel] = find(".comparison-state").children;
    [text.textContent, cancel.hidden] = ["Cancelling …", true];
    trigger("stop");
  }
  if (!value) return;
  if (how) zoom({ in: STEP, out: 1 / STEP, fit: null }[how]);
  if (mode) view.mode = mode;
  if (sort) [view.reversed, view.sort] = [view.sort === sort && !view.reversed, sort];
  if (mode || sort) draw();
});

// -- the table and its bars -------------------------------------------------------------------------------------------

function cell(tag, text, className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}
function written(key, number, digits) {
  if (key === "seconds") return number < 0.1 ? `${Math.max(1, Math.round(1000 * number))} ms` : `${number.toFixed(digits)} s`;
  return number.toFixed(digits) + (key === "psnr" ? " dB" : "");
}
function estimate({ psnr, low, high }) {  // with two standard errors; none where the error may be zero
  return psnr && high ? `${psnr.toFixed(1)} ± ${((high - low) / 2).toFixed(1)} dB` : `over ${low.toFixed(1)} dB`;
}
function drawTable() {
  const columns = COLUMNS.filter(([key]) => value.clean || !["ssim", "edge_fidelity"].includes(key));
  const [key, , , lessIsBetter] = columns.find(([one]) => one === view.sort) ?? columns[1];
  const measure = key === "label" ? columns[1] : columns.find(([one]) => one === key);
  const start = measure[0] === "seconds" ? 0 : value.noisy[measure[0]] ?? 0;
  const values = value.rows.map((row) => row[measure[0]]).filter((one) => typeof one === "number");
  const best = Math.max(...values, start + 1e-9);
  const order = (a, b) => {
    if (key === "label") return a.label.localeCompare(b.label);
    const [first, second] = [a[key], b[key]].map((one) => one ?? (lessIsBetter ? Infinity : -Infinity));
    return first === second ? 0 : (first - second) * (lessIsBetter ? 1 : -1);
  };
  const rows = [...value.rows].sort((a, b) => (!a.path === !b.path ? order(a, b) * (view.reversed ? -1 : 1) : a.path ? -1 : 1));
  drawHead(columns, key, measure, lessIsBetter !== view.reversed);
  find("tbody").replaceChildren(...rows.map((row) => {
    const line = document.createElement("tr");
    const name = cell("th", row.label, "name");
    name.scope = "row";
    name.append(cell("span", row.error ?? row.removed ?? row.family, row.error ? "worse" : ""));
    name.title = row.verdict ?? "";
    const bar = cell("td", "", "bars"), length = ((row[measure[0]] ?? start) - start) / (best - start);
    bar.append(Object.assign(document.createElement("i"), { style: `width:${100 * clamp(length, 0, 1)}%` }));
    line.append(name, bar, ...columns.slice(1).map(([one, , digits]) => {
      const number = row[one], text = typeof number === "number" ? written(one, number, digits) : row.path ? "–" : "";
      return cell("td", one === "psnr" && row.low ? estimate(row) : text);
    }));
    return line;
  }));
}
function drawHead(columns, key, measure, ascending) {
  const focused = document.activeElement?.dataset?.sort;
  const heads = columns.map(([one, label]) => {
    const head = document.createElement("th");
    head.scope = "col";
    if (one === "label") head.className = "name";
    const text = one === "psnr" && !value.clean ? "≈ PSNR" : label;
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
    button.dataset.sort = one;
    if (one === key) head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    head.append(button);
    return head;
  });
  const bars = cell("th", measure[0] === "seconds" ? "Time" : `${measure[1]} gained`, "bars");
  bars.scope = "col";
  find("thead tr").replaceChildren(heads[0], bars, ...heads.slice(1));
  if (focused) find(`[data-sort="${focused}"]`)?.focus();
}

// -- all of it --------------------------------------------------------------------------------------------------------

function drawState() {
  const total = value.rows.length, done = value.rows.filter((row) => row.path || row.error).length;
  const running = value.rows.find((row) => row.name === value.running);
  const [bar, text, cancel] = find(".comparison-state").children;
  Object.assign(bar, { value: done / total, hidden: !running });
  text.hidden = false;
  text.textContent = running ? `${done} of ${total}: ${running.label} …` : value.cancelled ? "Cancelled" : "";
  cancel.hidden = !running;
  const level = value.added ?? value.sigma, differ = Math.abs(level - value.sigma) > 0.05 * level + 0.1;
  const told = differ ? ` (techniques are told ${value.sigma.toFixed(1)})` : "";
  const size = `Crop of ${value.width} × ${value.height} pixels, noise σ ${level.toFixed(1)}${told}. `;
  const removed = "Histograms: bars are the values of what was removed, the line is Gaussian noise of the level. ";
  note.textContent = size + (view.mode === "removed" ? removed : "") + (value.clean
    ? "Drag the crops, or move two fingers on them, to move and zoom all."
    : view.mode === "uncertain"
    ? "How far each pixel is expected to be off, by Stein's estimate: black is not at all, white is as much as the noise. " +
      "It is what the picture leaves open; what a technique gets wrong beside that is not in it."
    : "There is no clean picture: the PSNR is Stein's estimate (SURE) ± two standard errors, for independent noise of " +
      "this level. If the level is off, so are all.");
  note.hidden = false;
  find("[data-mode=missing]").hidden = !value.clean;
  find("[data-mode=uncertain]").hidden = Boolean(value.clean);
}
function draw() {
  if (view.mode === (value.clean ? "uncertain" : "missing")) view.mode = "removed";
  for (const button of root.querySelectorAll(".viewer-bar [data-mode]"))
    button.setAttribute("aria-pressed", button.dataset.mode === view.mode);
  drawTiles();
  drawTable();
  drawState();
  root.dataset.done = JSON.stringify({ run: value.run, running: value.running, rows: value.rows.length });
}
let arrived = 0;
function clear() {  // something went wrong, and a message says what
  arrived += 1;
  value = null;
  for (const part of [crops, find("tbody")]) part.replaceChildren();
  for (const part of [note, ...find(".comparison-state").children]) part.hidden = true;
}
async function take(text) {
  if (!text) return clear();
  const next = JSON.parse(text);
  if (value && next.run < value.run) return;  // the last word of an older run
  const number = ++arrived;
  for (const range of ranges()) follow(range, next.rules);
  const paths = [next.noisy, next.clean, ...next.rows].flatMap((one) => [one?.path, one?.map, one?.uncertainty]).filter(Boolean);
  for (const old of [...pictures.keys()]) if (!paths.includes(old)) pictures.delete(old);
  await Promise.all(paths.filter((path) => !pictures.has(path)).map(async (path) => {
    try {
      pictures.set(path, await load(path));
    } catch (error) {  // a file that was deleted meanwhile
      console.warn(error);
    }
  }));
  if (number !== arrived) return;  // a newer one came while its pictures were loaded
  if (value?.width !== next.width || value.height !== next.height) view.scale = undefined;  // another size
  value = next;
  draw();
}
watch("value", () => take(props.value));
new ResizeObserver(place).observe(crops);
connect();
