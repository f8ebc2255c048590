// The viewer: its pictures, their layout, one zoom and position for all of them. Body of a function of gradio's gr.HTML
// with `element`, `props`, `watch` and `trigger`; viewer_value in viewer.py says what `props.value` holds.
const MAX_SCALE = 32, STEP = 1.25;
const NAMES = ["noisy", "denoised", "difference", "clean"];
const viewer = element.querySelector(".viewer");
const find = (selector) => viewer.querySelector(selector);
const stage = find(".viewer-stage"), divider = find(".viewer-divider"), keys = find(".viewer-keys");
const figures = Object.fromEntries(NAMES.map((name) => [name, find(`figure[data-name=${name}]`)]));
const frames = Object.fromEntries(NAMES.map((name) => [name, figures[name].querySelector(".viewer-frame")]));
const view = { mode: innerWidth < 800 ? "slider" : "side", name: "denoised", scale: null, x: 0.5, y: 0.5, split: 50 };
const size = { width: 0, height: 0 };  // of the final pictures; a live one is drawn as large
let held = {};     // what is shown: name -> {element, url, result}, `result` being the number of the result it is of
let result = 0;    // number of the newest result on the screen
let arrived = 0;   // number of the newest result that has come, perhaps not decoded yet
const cleans = new Map(); // the last clean pictures, live and final, so that the server need not send them again
let available = NAMES;

// -- which pictures ---------------------------------------------------------------------------------------------------

function wanted() {
  if (view.mode === "slider") return ["noisy", "denoised"];
  return view.mode === "one" ? [view.name] : NAMES;
}
function announce() {  // page.js sends it with every run
  viewer.dataset.shown = [...wanted(), ...[...cleans.keys()].map((original) => `clean=${original}`)].join(" ");
}
function setMode(mode, name = view.name) {
  const focused = document.activeElement;
  Object.assign(view, { mode, name });
  announce();
  draw();
  if (stage.contains(focused) && !focused.checkVisibility()) stage.focus({ preventScroll: true }); // it was the divider
  if (result && wanted().some((one) => available.includes(one) && held[one]?.result !== result)) trigger("input");
}

// -- results ----------------------------------------------------------------------------------------------------------

const isLate = (live) => live && !window.isMoving();  // the final one is on its way, or has come
const expected = new Map(); // path -> image that is being loaded
window.expectPictures = (values) => {  // page.js has read an answer, which gradio takes some time to hand on
  const text = values.find((one) => typeof one === "string" && one.startsWith('{"paths"'));
  const { paths, live } = text ? JSON.parse(text) : {};
  if (!paths || isLate(live)) return;
  expected.clear();
  for (const path of Object.values(paths)) expected.set(path, request(path));
};
function request(path) {
  const image = new Image();
  image.src = window.fileAddress(path);
  image.alt = "";
  return image;
}
async function load(path) {
  const image = expected.get(path) ?? request(path);
  await image.decode();
  return image;
}
// Used again for every result: what the browser has to clear away takes the network's time.
const scratch = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const difference = document.createElement("canvas").getContext("2d");
function resize({ canvas }, width, height) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
}
function pixels(image) {  // as the file holds them, which has 8 bits, no transparency and no color space of its own
  const { naturalWidth: width, naturalHeight: height } = image;
  resize(scratch, width, height);
  scratch.drawImage(image, 0, 0);
  return scratch.getImageData(0, 0, width, height);
}
function subtract(first, second, gain) {  // first - second, as experiment.difference computes it
  const a = pixels(first), b = pixels(second);
  for (let i = 0; i < a.data.length; i += 1)  // the array clamps to 0..255
    if (i % 4 !== 3) a.data[i] = 128 + gain * (a.data[i] - b.data[i]);
  resize(difference, a.width, a.height);
  difference.putImageData(a, 0, 0);
  return difference.canvas;
}
function clear() {
  held = {};
  result = 0;
  cleans.clear();
  for (const name of NAMES) frames[name].replaceChildren();
  draw();
}
async function take(text) {
  const value = text ? JSON.parse(text) : null;
  if (isLate(value?.live)) return;
  const number = ++arrived;
  if (!value) return clear();
  const next = {};
  try {
    await Promise.all(Object.entries(value.paths).map(async ([name, path]) => {
      const image = await load(path);
      next[name] = { element: image, url: image.src, file: path.split("/").pop(), result: number };
    }));
    if (isLate(value.live)) return;  // released meanwhile
    if (number < result) return;  // a newer one was faster
    if (!next.clean && cleans.has(value.original)) next.clean = { ...cleans.get(value.original), result: number };
    const { minuend, gain, exact } = value.difference ?? {};
    if (exact)
      next.difference = { element: subtract(next[minuend].element, next.denoised.element, gain), result: number };
  } catch (error) {  // a file that a newer result has outlived; else no other picture stays beside these figures
    console.warn(error);
    return number === arrived ? clear() : undefined;
  }
  result = number;
  available = NAMES.filter((name) => name !== "clean" || value.original);
  if (!value.live || !size.width) [size.width, size.height] = [value.width, value.height];
  held = { ...held, ...next };
  if (!value.original) delete held.clean;
  if (next.clean) {
    cleans.delete(value.original);
    cleans.set(value.original, next.clean);
    if (cleans.size > 2) cleans.delete(cleans.keys().next().value);
  }
  const label = value.difference?.label ?? "Difference";
  figures.difference.querySelector("span").textContent = label;
  for (const name of NAMES) {
    if (!next[name]) continue;
    frames[name].replaceChildren(next[name].element);
    next[name].element.setAttribute("role", "img");
    next[name].element.setAttribute("aria-label", name === "difference" ? label : name);
    setDownload(name, next[name], value.live);
  }
  announce();
  draw();
  viewer.dataset.result = JSON.stringify({ number, live: value.live, sent: Object.keys(value.paths) });
  if (value.live) window.goOnLive();
}
function setDownload(name, picture, live) {
  const link = figures[name].querySelector("a");
  link.hidden = live;
  link.setAttribute("aria-label", `Save the ${name} picture`);
  link.title = `Save this picture (PNG, ${size.width} × ${size.height})`;
  link.download = picture.file ?? "difference.png";
  if (picture.url) link.href = picture.url;
  else link.href = "#";
  link.onclick = picture.url ? null : (event) => {
    event.preventDefault();
    picture.element.toBlob((blob) => {
      const url = URL.createObjectURL(blob);
      Object.assign(document.createElement("a"), { href: url, download: link.download }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60000);
    });
  };
}

// -- layout, zoom, position -------------------------------------------------------------------------------------------

function visible() {
  return wanted().filter((name) => available.includes(name));
}
function columns(count) {  // as many as show the pictures largest
  const shape = size.width / size.height || 1, width = stage.clientWidth, height = stage.clientHeight;
  const scale = (n) => Math.min(width / n / shape, height / Math.ceil(count / n));
  return [1, 2, 3, 4].filter((n) => n <= count).reduce((best, n) => (scale(n) > scale(best) ? n : best), 1);
}
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
function fitScale() {
  const frame = frames[visible()[0]];
  return Math.min(frame.clientWidth / size.width, frame.clientHeight / size.height) || 1;
}
function draw() {
  const names = visible();
  const old = (name) => held[name] && held[name].result !== result;
  for (const name of NAMES) {
    figures[name].hidden = !names.includes(name);
    frames[name].style.visibility = old(name) ? "hidden" : "";
  }
  stage.dataset.mode = view.mode;
  stage.style.gridTemplateColumns = `repeat(${view.mode === "side" ? columns(names.length) : 1}, minmax(0, 1fr))`;
  stage.classList.toggle("empty", !result);
  divider.hidden = view.mode !== "slider" || !result;
  for (const button of viewer.querySelectorAll(".viewer-bar [data-mode]"))
    button.setAttribute("aria-pressed", button.dataset.mode === view.mode);
  for (const button of viewer.querySelectorAll(".viewer-bar [data-name]")) {
    button.setAttribute("aria-pressed", button.dataset.name === view.name);
    button.hidden = !available.includes(button.dataset.name);
  }
  find(".viewer-names").hidden = view.mode !== "one";
  if (!size.width) return;
  const fit = fitScale(), scale = view.scale ?? fit;
  for (const name of names) place(frames[name], scale);
  const percent = `${Math.round(scale * devicePixelRatio * 100)} %`;
  if (find(".viewer-percent").textContent !== percent) find(".viewer-percent").textContent = percent; // it is read aloud
  find("[data-zoom=fit]").setAttribute("aria-pressed", view.scale === null);
  find("[data-zoom=full]").setAttribute("aria-pressed", Math.abs(scale * devicePixelRatio - 1) < 1e-3);
  stage.classList.toggle("enlarged", scale > fit * 1.001);
  drawDivider(scale);
}
function place(frame, scale) {
  const width = size.width * scale, height = size.height * scale;
  const halfX = Math.min(0.5, frame.clientWidth / 2 / width), halfY = Math.min(0.5, frame.clientHeight / 2 / height);
  view.x = clamp(view.x, halfX, 1 - halfX);
  view.y = clamp(view.y, halfY, 1 - halfY);
  const picture = frame.firstElementChild;
  if (!picture) return;
  const left = Math.round(frame.clientWidth / 2 - view.x * width), top = Math.round(frame.clientHeight / 2 - view.y * height);
  picture.style.cssText = `width:${width}px;height:${height}px;transform:translate(${left}px,${top}px)`;
  picture.style.imageRendering = scale * devicePixelRatio >= 2 ? "pixelated" : "auto";
}
function drawDivider(scale) {  // the line stays on the picture where that is narrower than its frame
  const frame = frames.denoised, width = Math.min(size.width * scale, frame.clientWidth);
  const line = (frame.clientWidth - width) / 2 + (width * view.split) / 100;
  divider.style.left = `${line}px`;
  divider.setAttribute("aria-valuenow", Math.round(view.split));
  divider.setAttribute("aria-valuetext", `${Math.round(view.split)} % noisy`);
  frame.style.clipPath = view.mode === "slider" ? `inset(0 0 0 ${line}px)` : "";
}
function zoom(scale, clientX, clientY) {  // about a point of the screen; by default the middle
  const old = view.scale ?? fitScale(), fit = fitScale();
  const next = scale === null ? fit : clamp(scale, Math.min(fit, 1 / devicePixelRatio) / 4, MAX_SCALE);
  if (clientX !== undefined) {
    const frame = NAMES.map((name) => frames[name]).find((one) => {
      const box = one.getBoundingClientRect();
      return clientX >= box.left && clientX <= box.right && clientY >= box.top && clientY <= box.bottom;
    });
    if (frame) {
      const box = frame.getBoundingClientRect();
      const dx = clientX - box.left - box.width / 2, dy = clientY - box.top - box.height / 2;
      view.x += dx * (1 / old - 1 / next) / size.width;
      view.y += dy * (1 / old - 1 / next) / size.height;
    }
  }
  view.scale = scale === null ? null : next;
  draw();
}
function pan(dx, dy) {
  const scale = view.scale ?? fitScale();
  view.x -= dx / (size.width * scale);
  view.y -= dy / (size.height * scale);
  draw();
}
function setSplit(share) {
  view.split = clamp(share, 0, 100);
  draw();
}

// -- mouse, touch, keys -----------------------------------------------------------------------------------------------

const zooms = {
  in: () => zoom((view.scale ?? fitScale()) * STEP),
  out: () => zoom((view.scale ?? fitScale()) / STEP),
  fit: () => zoom(null),
  full: () => zoom(1 / devicePixelRatio),
};
const actions = {
  fullscreen: () => (document.fullscreenElement ? document.exitFullscreen() : viewer.requestFullscreen()),
  keys: () => keys.showModal(),
  close: () => keys.close(),
};
viewer.addEventListener("click", (event) => {
  const { mode, name, zoom: how, do: what } = event.target.closest("button")?.dataset ?? {};
  if (mode) setMode(mode);
  if (name) setMode("one", name);
  zooms[how]?.();
  actions[what]?.();
});
stage.addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return;  // the page scrolls
  event.preventDefault();
  zoom((view.scale ?? fitScale()) * 2 ** (-event.deltaY / 300), event.clientX, event.clientY);
}, { passive: false });
function follow(target, event, moved) {  // a pointer, until it is released
  event.preventDefault();
  target.setPointerCapture(event.pointerId);
  target.addEventListener("pointermove", moved);
  const end = () => target.removeEventListener("pointermove", moved);
  for (const name of ["pointerup", "pointercancel"]) target.addEventListener(name, end, { once: true });
}
stage.addEventListener("pointerdown", (event) => {
  if (event.pointerType === "touch" || event.button || event.target.closest("a, .viewer-divider")) return;
  stage.focus({ preventScroll: true });
  follow(stage, event, (move) => pan(move.movementX, move.movementY));
});
divider.addEventListener("pointerdown", (event) => {
  divider.focus({ preventScroll: true });
  follow(divider, event, (move) => {
    const box = frames.denoised.getBoundingClientRect();
    const width = Math.min(size.width * (view.scale ?? fitScale()), box.width);
    setSplit(((move.clientX - box.left - (box.width - width) / 2) / width) * 100);
  });
});
divider.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
  if (!(event.key in steps)) return;
  event.preventDefault();
  event.stopPropagation();
  setSplit(view.split + steps[event.key]);
});
let pinch = null;
const middle = ([a, b]) => [(a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2];
const spread = ([a, b]) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
stage.addEventListener("touchmove", (event) => {
  if (event.touches.length !== 2) return;  // one finger scrolls the page
  event.preventDefault();
  const now = { middle: middle(event.touches), spread: spread(event.touches) };
  if (pinch) {
    zoom((view.scale ?? fitScale()) * (now.spread / pinch.spread), ...now.middle);
    pan(now.middle[0] - pinch.middle[0], now.middle[1] - pinch.middle[1]);
  }
  pinch = now;
}, { passive: false });
for (const name of ["touchstart", "touchend", "touchcancel"])
  stage.addEventListener(name, () => (pinch = null), { passive: true });
const shortcuts = {
  "+": zooms.in, "=": zooms.in, "-": zooms.out, 0: zooms.fit, 1: zooms.full, f: actions.fullscreen,
  s: () => setMode("slider"), b: () => setMode("side"), o: () => setMode("one"),
  ArrowLeft: () => pan(60, 0), ArrowRight: () => pan(-60, 0), ArrowUp: () => pan(0, 60), ArrowDown: () => pan(0, -60),
};
stage.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const shortcut = shortcuts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!shortcut || (event.key.startsWith("Arrow") && !stage.classList.contains("enlarged"))) return;
  event.preventDefault();
  shortcut();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "?" || event.target.matches("input:not([type=range],[type=radio],[type=checkbox]), textarea")) return;
  event.preventDefault();
  if (!keys.open) keys.showModal();
});

watch("value", () => take(props.value));
new ResizeObserver(draw).observe(stage);
announce();
draw();
