// The page: the photo, the sliders, and what the worker computes.
import { gaussianNoise, psnr } from "./noise.js";

const MAX_PIXELS = 24e6;
const MAX_NOISE = 4194301; // values; a larger picture has them again, shifted from row to row
const at = (id) => document.getElementById(id);
const [noisyCanvas, denoisedCanvas] = [at("noisy"), at("denoised")];
const forced = new URLSearchParams(location.search).get("runtime"); // "wasm": also where there is WebGPU
let models = [], clean = null, noise = null, noisy = null, estimated = null, job = 0, frame = 0;
let worker = null, loading = false; // whether the checkpoint of the job may not be there yet
// While a slider moves, a job is replaced only once its first tile is to be seen: else a slow device would show none.
let unseen = false, again = false, sent = "", opened = 0; // the checkpoint of the job; how many photos were chosen

function say(text, problem = false) {
  if (at("status").textContent !== text) at("status").textContent = text; // which is read aloud
  at("status").classList.toggle("problem", problem);
}

function busy(share) { // null: not at all
  if (share === null && document.activeElement === at("cancel")) at("file").focus();
  at("progress").hidden = at("cancel").disabled = share === null;
  if (share !== null) at("progress").value = share;
}

function startWorker() {
  worker = new Worker("worker.js", { type: "module" });
  worker.addEventListener("error", () => fail("A part of this page could not be fetched. Check the connection and try again."));
  worker.addEventListener("message", ({ data }) => {
    if (data.job !== job) return;
    if (data.kind === "loading") {
      busy(data.share);
      return say("Fetching the checkpoint");
    }
    loading = false;
    if (data.kind === "level") return again || showLevel(estimated = data.sigma); // again: it is of an older picture
    unseen = false;
    if (data.kind === "failed") {
      stopWorker();
      return again ? send() : fail(data.message); // with other settings it may succeed
    }
    const { tile, pixels } = data;
    denoisedCanvas.getContext("2d").putImageData(new ImageData(pixels, tile.right - tile.left), tile.left, tile.top);
    busy(data.done < 1 ? data.done : null);
    if (again) send();
    else if (data.done < 1 || frame) say("Computing");
    else finish(data.provider);
  });
}

// What failed or is given up while it is fetched begins anew: a runtime does not start twice, a connection may wait for ever.
function stopWorker() {
  worker?.terminate();
  worker = null;
  loading = false;
}

function finish(provider) {
  const { width, height } = denoisedCanvas;
  let figures = "";
  if (Number(at("added").value) > 0)
    figures = `: ${psnr(clean.data, noisy.data).toFixed(2)} dB noisy, ${psnr(clean.data, read(denoisedCanvas).data).toFixed(2)} dB denoised`;
  else if (!model().blind && !sigma())
    figures = at("mode").value === "estimate"
      ? ". No noise was found, so nothing was removed."
      : ". Noise of level 0 is none, so nothing was removed: choose another level, or “estimated”.";
  say(`Done on this device by ${provider === "webgpu" ? "WebGPU" : "WebAssembly"}, ${width} x ${height}${figures}`);
  const mine = job;
  denoisedCanvas.toBlob((blob) => {
    if (mine !== job || frame) return; // it is of other settings by now
    URL.revokeObjectURL(at("save").href);
    at("save").href = URL.createObjectURL(blob);
    at("save").hidden = false;
  });
}

const read = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);

// What a canvas holds of a bitmap, on white; null if it is too long or too wide for one, where browsers draw nothing.
function pixelsOf(bitmap) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // under what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0);
  try {
    const pixels = read(canvas);
    return pixels.data[3] === 255 ? pixels : null;
  } catch {
    return null;
  }
}

async function open(file) {
  if (!file) return;
  const mine = (opened += 1), bitmap = await createImageBitmap(file).catch(() => null);
  if (mine !== opened) return; // another photo was chosen meanwhile
  if (!bitmap) return refuse("This file is no picture that the browser can read. Try a JPEG or PNG.");
  const { width, height } = bitmap;
  if (width * height > MAX_PIXELS)
    return refuse(`The photo has ${(width * height / 1e6).toFixed(0)} megapixels; at most ${MAX_PIXELS / 1e6} fit. Crop it first.`);
  const pixels = pixelsOf(bitmap);
  if (!pixels) return refuse(`The photo has ${width} x ${height} pixels: on a side this browser holds fewer. Crop it first.`);
  end();
  for (const canvas of [noisyCanvas, denoisedCanvas]) [canvas.width, canvas.height] = [width, height];
  noisyCanvas.getContext("2d", { willReadFrequently: true });
  clean = pixels;
  noise = gaussianNoise(Math.min(3 * width * height, MAX_NOISE));
  addNoise();
  denoisedCanvas.getContext("2d", { willReadFrequently: true }).putImageData(noisy, 0, 0); // until tiles come
  compute();
}

function addNoise() {
  const sigma = Number(at("added").value), pixels = new Uint8ClampedArray(clean.data);
  if (sigma)
    for (let i = 0, n = 0; i < pixels.length; i++)
      if (i % 4 < 3) pixels[i] = Math.round(clean.data[i] + sigma * noise[n++ % noise.length]);
  noisy = new ImageData(pixels, clean.width);
  estimated = null;
  noisyCanvas.getContext("2d").putImageData(noisy, 0, 0);
}

function compute() {
  frame = 0;
  if (!clean) return say("Choose a photo, or drop one here.");
  at("save").hidden = true;
  if (!noisy) addNoise();
  if (unseen && sent === model().name) again = true;
  else send();
}

const model = () => models.find((one) => one.name === at("checkpoint").value);

// What the network is to remove; null: the worker estimates it first.
function sigma() {
  return { known: Number(at("added").value), estimate: estimated, manual: Number(at("level").value) }[at("mode").value];
}

function send() {
  busy(0);
  say("Computing");
  if (loading && sent !== model().name) stopWorker();
  if (!worker) startWorker();
  [unseen, again, loading, sent] = [true, false, true, model().name];
  job += 1;
  const rgba = new Uint8ClampedArray(noisy.data), { height, width } = noisy;
  worker.postMessage({ kind: "run", job, model: model(), rgba, height, width, sigma: sigma(), forced });
}

// Give up what is computed; what was saved is of another picture or other settings.
function end() {
  [unseen, again] = [false, false];
  job += 1;
  worker?.postMessage({ kind: "cancel", job });
  busy(null);
  at("save").hidden = true;
}

function stop() {
  if (loading) stopWorker();
  end();
  say("Stopped. Move a slider to compute again.");
}

function fail(message) {
  stopWorker();
  end();
  say(message, true);
}

// A file that cannot be opened leaves what is there.
function refuse(message) {
  if (!at("cancel").disabled) end();
  say(message, true);
}

function showLevel(value) {
  at("level").value = value;
  at("level-value").value = Math.round(10 * value) / 10;
}

function showControls() {
  at("added-value").value = at("added").value;
  if (at("mode").value !== "estimate") showLevel(sigma());
  for (const row of document.querySelectorAll(".levels")) row.hidden = model().blind;
}

function onControl({ target }) {
  if (target.id === "added") noisy = null;
  if (target.id === "level") at("mode").value = "manual";
  showControls();
  say("Computing");
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(compute); // once for what the slider reports between two frames
}

// Within the page that computes on a server (denoiser/demo/on_device.js): its photo, which is fetched, and its settings.
let handed = "";
async function take({ photo, added, mode, level, checkpoint }) {
  [at("added").value, at("mode").value, at("level").value, noisy] = [added, mode, level, null];
  if (models.some((one) => one.name === checkpoint)) at("checkpoint").value = checkpoint;
  showControls();
  if (!photo || photo === handed) return compute();
  handed = photo;
  const mine = (opened += 1), file = await fetch(photo).then((answer) => answer.ok && answer.blob()).catch(() => null);
  if (mine !== opened) return;
  if (!file) return refuse("The photo of the page could not be fetched. Choose it here.");
  open(file);
}

const MISSING = "The runtime or the checkpoints are not here: whoever hosts this page has to run python web/build.py first.";
const UNREACHABLE = "The list of the checkpoints could not be fetched. Check the connection and load the page again.";

async function start() {
  if (typeof WebAssembly !== "object" || typeof Worker !== "function" || typeof createImageBitmap !== "function")
    return say("This browser cannot compute on this device: it lacks WebAssembly. Use a current one, or the page that computes on a server.", true);
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => event.preventDefault()); // else the browser leaves the page for the file
  const answer = await fetch("models/models.json").catch(() => null);
  models = await answer?.json().catch(() => null);
  if (!models) return say(!answer || answer.ok ? UNREACHABLE : MISSING, true);
  for (const { name, bytes } of models) at("checkpoint").add(new Option(`${name} (${(bytes / 1e6).toFixed(0)} MB)`, name));
  showControls();
  for (const name of ["added", "level", "mode", "checkpoint"]) at(name).addEventListener("input", onControl);
  at("cancel").addEventListener("click", stop);
  at("file").addEventListener("change", () => open(at("file").files[0]));
  document.addEventListener("drop", ({ dataTransfer }) => {
    at("file").value = ""; // its name is of another
    open(dataTransfer.files[0]);
  });
  document.body.dataset.ready = "true";
  if (parent === window) return;
  window.addEventListener("message", ({ data, source, origin }) => {
    if (source === parent && origin === location.origin) take(data);
  });
  parent.postMessage("ready", location.origin);
}

document.body.classList.toggle("embedded", parent !== window);
at("own-page").hidden = parent === window || crossOriginIsolated; // in a frame few browsers give WebAssembly threads
start();
