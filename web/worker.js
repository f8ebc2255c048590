// Loads a network once and computes pictures with it, tile by tile, beside the page.
import { cutTiles } from "./tiles.js";
import { blend, moveTile, NO_BLEND, undoClipping } from "./correct.js";
import { blindShare, estimateSigma, measuredParts } from "./estimate.js";

// Entries of the first and the last table of tables.bin; the three between them are of equal length.
const SIGNS = 64 * 64 * 3, DEVIATIONS = 501;
// Texture that an estimated level may hold, in gray and in color: see denoiser/network_input.py.
const UNSURE = { gray: 1.3, color: 0.7 };
const MAX_STEP = 4; // the largest step between two values that a dim picture may get, 8-bit levels

let ort, provider, tables, loaded = { name: null, session: null };
let wanted = 0; // the newest job; an older one stops after its tile

const unreachable = (what) => `${what} could not be fetched. Check the connection and try again.`;

async function answered(address, what) {
  const response = await fetch(address).catch(() => { throw new Error(unreachable(what)); });
  if (!response.ok) throw new Error(`${what} could not be fetched (${response.status}). Try again later.`);
  return response;
}

// WebGPU where there is an adapter, else WebAssembly, with threads where the page is isolated from others.
async function loadRuntime(forced) {
  if (ort && !(forced === "wasm" && provider === "webgpu")) return;
  const adapter = forced === "wasm" ? null : await navigator.gpu?.requestAdapter().catch(() => null);
  provider = adapter ? "webgpu" : "wasm";
  const address = new URL(`./ort/ort.${provider}.min.mjs`, import.meta.url);
  ort = await import(address).catch(async () => {
    const missing = "The runtime is not here: whoever hosts this page has to run python web/build.py first.";
    const answer = await fetch(address).catch(() => null); // an import does not say why it failed
    throw new Error(answer?.status === 404 ? missing : unreachable("The runtime"));
  });
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 8) : 1;
  loaded = { name: null, session: null };
}

// The file, from the browser's store or else fetched, with the hash that models.json states.
async function fetchOnce({ file, sha256, bytes }) {
  const store = await self.caches?.open("denoiser-models").catch(() => null), address = new URL(`models/${file}?${sha256}`, import.meta.url);
  const kept = await store?.match(address);
  if (kept) return new Uint8Array(await kept.arrayBuffer());
  const response = await answered(address, "The checkpoint");
  const content = new Uint8Array(bytes), reader = response.body.getReader();
  const next = () => reader.read().catch(() => { throw new Error(unreachable("The checkpoint")); });
  let received = 0;
  for (let part = await next(); !part.done; part = await next()) {
    if (received + part.value.length > bytes) break;
    content.set(part.value, received);
    received += part.value.length;
    postMessage({ kind: "loading", job: wanted, share: received / bytes });
  }
  const hash = self.crypto.subtle && new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const hex = hash && Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (received !== bytes || (hex && hex !== sha256)) throw new Error("The checkpoint arrived damaged. Load the page again.");
  await store?.put(address, new Response(content)).catch(() => {}); // no room: it is fetched again next time
  return content;
}

async function load(model, forced) {
  await loadRuntime(forced);
  if (!tables) {
    const response = await answered(new URL("tables.bin", import.meta.url), "The tables");
    const values = new Float32Array(await response.arrayBuffer().catch(() => { throw new Error(unreachable("The tables")); }));
    const length = (values.length - SIGNS - DEVIATIONS) / 3, part = (i) => values.subarray(SIGNS + i * length, SIGNS + (i + 1) * length);
    const [shift, share, spread] = [0, 1, 2].map(part), deviation = values.subarray(-DEVIATIONS);
    tables = { signs: values.subarray(0, SIGNS), shift, share, spread, deviation };
  }
  if (loaded.name === model.name) return;
  const content = await fetchOnce(model);
  await loaded.session?.release();
  loaded = { name: null, session: null };
  const session = await ort.InferenceSession.create(content, { executionProviders: [provider] }).catch((error) => {
    throw /no available backend/.test(error.message) ? new Error(unreachable("The runtime")) : error; // it is fetched only here
  });
  loaded = { name: model.name, session };
}

// The outer part of a tile as planes in [0, 1].
function cut(rgba, width, tile) {
  const rows = tile.outerBottom - tile.outerTop, columns = tile.outerRight - tile.outerLeft;
  const part = new Float32Array(3 * rows * columns);
  for (let y = 0, to = 0; y < rows; y++)
    for (let x = 0, from = 4 * ((tile.outerTop + y) * width + tile.outerLeft); x < columns; x++, from += 4, to++)
      for (let c = 0; c < 3; c++) part[c * rows * columns + to] = rgba[from + c] / 255;
  return part;
}

// The network's estimate for planes; a gray network takes each of them as a picture.
async function infer(model, pixels, level, rows, columns, gray) {
  const given = model.channels, count = rows * columns;
  const inputs = { image: new ort.Tensor("float32", pixels, [3 / given, given, rows, columns]) };
  if (!model.blind) inputs.sigma = new ort.Tensor("float32", Float32Array.of(level), [1]);
  const outputs = await loaded.session.run(inputs), values = Float32Array.from(await outputs.denoised.getData());
  outputs.denoised.dispose();
  if (gray) // three equal planes have one estimate
    for (let i = 0; i < count; i++) {
      const mean = (values[i] + values[i + count] + values[i + 2 * count]) / 3;
      values[i] = values[i + count] = values[i + 2 * count] = mean;
    }
  return values;
}

async function computeTile(model, rgba, tile, { level, share, gain, clips }, width) {
  const rows = tile.outerBottom - tile.outerTop, columns = tile.outerRight - tile.outerLeft;
  const count = rows * columns, part = cut(rgba, width, tile), compute = (pixels) => infer(model, pixels, level, rows, columns, clips.gray);
  const estimate = await compute(part);
  if (model.blind) {
    for (let i = 0; i < estimate.length; i++) estimate[i] = part[i] + share * (estimate[i] - part[i]);
  } else {
    let change = null;
    if (level < NO_BLEND) {
      const { probe, distance, moved } = moveTile(part, tile, level, rows, columns, clips.gray, tables.signs);
      change = (await compute(moved)).map((value, i) => (level / distance) * probe[i] * (value - estimate[i]));
    }
    undoClipping(estimate, part, level, rows, columns, clips, tables);
    if (change) blend(estimate, part, level, change, rows, columns, gain / 255);
  }
  const across = tile.right - tile.left, down = tile.bottom - tile.top, pixels = new Uint8ClampedArray(4 * across * down);
  for (let y = 0; y < down; y++)
    for (let x = 0; x < across; x++) {
      const from = (y + tile.top - tile.outerTop) * columns + x + tile.left - tile.outerLeft, to = 4 * (y * across + x);
      for (let c = 0; c < 3; c++) pixels[to + c] = Math.round((255 / gain) * estimate[c * count + from]);
      pixels[to + 3] = 255;
    }
  return pixels;
}

// Whether a picture holds black and white, whether it is gray, and its highest value.
function examine(rgba) {
  const clips = { black: false, white: false, gray: true, highest: 0 };
  for (let i = 0; i < rgba.length; i += 4) {
    const [low, high] = [Math.min(rgba[i], rgba[i + 1], rgba[i + 2]), Math.max(rgba[i], rgba[i + 1], rgba[i + 2])];
    clips.black ||= low === 0;
    clips.white ||= high === 255;
    clips.gray &&= low === high;
    clips.highest = Math.max(clips.highest, high);
  }
  return clips;
}

// How much a dim picture is brightened, as `brighten` of denoiser/analysis/noise_level.py does.
const brightening = (highest) => 2 ** Math.floor(Math.log2(Math.max(1, Math.min(254.745 / Math.max(highest, 1e-3), MAX_STEP))));

async function run({ job, model, rgba, height, width, sigma, forced }) {
  await load(model, forced);
  if (job !== wanted) return;
  const clips = examine(rgba), gain = brightening(clips.highest), tiles = cutTiles(height, width);
  if (gain > 1) rgba = rgba.map((value) => gain * value); // the last of four, alpha, is not looked at
  let share = 1;
  if (sigma !== null) sigma *= gain;
  if (sigma === null || model.blind) {
    const found = estimateSigma(rgba, height, width, tables.deviation);
    if (!model.blind) postMessage({ kind: "level", job, sigma: found / gain });
    sigma = Math.sqrt(Math.max(0, found ** 2 - UNSURE[clips.gray ? "gray" : "color"] ** 2));
  }
  if (model.blind) {
    const measured = measuredParts(rgba, height, width);
    share = await blindShare(measured.rgba, measured.height, measured.width, sigma, async (part) => {
      const pixels = cut(measured.rgba, measured.width, part);
      const estimate = await infer(model, pixels, 0, part.outerBottom - part.outerTop, part.outerRight - part.outerLeft, clips.gray);
      return pixels.map((value, i) => value - estimate[i]);
    });
  }
  const settings = { level: sigma / 255, share, gain, clips };
  for (const [index, tile] of tiles.entries()) {
    await new Promise((resume) => setTimeout(resume)); // messages come in between
    if (job !== wanted) return;
    const pixels = await computeTile(model, rgba, tile, settings, width);
    if (job !== wanted) return;
    postMessage({ kind: "tile", job, tile, pixels, done: (index + 1) / tiles.length, provider }, [pixels.buffer]);
  }
}

// A GPU that fails, by its driver or for want of memory, is given up for WebAssembly.
async function runAnywhere(data) {
  try {
    await run(data);
  } catch (error) {
    if (provider !== "webgpu") throw error;
    await run({ ...data, forced: "wasm" });
  }
}

let queue = Promise.resolve();
self.addEventListener("message", ({ data }) => {
  wanted = data.job;
  if (data.kind !== "run") return;
  queue = queue.then(() => (data.job === wanted ? runAnywhere(data) : null)).catch((error) => {
    postMessage({ kind: "failed", job: data.job, message: String(error.message || error) });
  });
});
