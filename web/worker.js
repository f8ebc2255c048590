// Loads a network once and computes pictures with it, tile by tile, beside the page.
import { cutTiles } from "./tiles.js";
import { blend, moveTile, NO_BLEND, undoClipping } from "./correct.js";
import { blindShare, estimateSigma } from "./estimate.js";

// Entries of the first and the last table of tables.bin; the three between them are of equal length.
const SIGNS = 64 * 64 * 3, DEVIATIONS = 501;
// Texture that an estimated level may hold, in gray and in color: see denoiser/network_input.py.
const UNSURE = { gray: 1.3, color: 0.7 };

let ort, provider, tables, loaded = { name: null, session: null };
let wanted = 0; // the newest job; an older one stops after its tile

// WebGPU where there is an adapter, else WebAssembly, with threads where the page is isolated from others.
async function loadRuntime(forced) {
  if (ort && !(forced === "wasm" && provider === "webgpu")) return;
  const adapter = forced === "wasm" ? null : await navigator.gpu?.requestAdapter().catch(() => null);
  provider = adapter ? "webgpu" : "wasm";
  ort = await import(`./ort/ort.${provider}.min.mjs`).catch(() => {
    throw new Error("The runtime is not here: whoever hosts this page has to run python web/build.py first.");
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
  const response = await fetch(address);
  if (!response.ok) throw new Error(`The checkpoint could not be fetched (${response.status}). Try again later.`);
  const content = new Uint8Array(bytes), reader = response.body.getReader();
  let received = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    if (received + part.value.length > bytes) break;
    content.set(part.value, received);
    received += part.value.length;
    postMessage({ kind: "loading", share: received / bytes });
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
    const values = new Float32Array(await (await fetch(new URL("tables.bin", import.meta.url))).arrayBuffer());
    const length = (values.length - SIGNS - DEVIATIONS) / 3, part = (i) => values.subarray(SIGNS + i * length, SIGNS + (i + 1) * length);
    const [shift, share, spread] = [0, 1, 2].map(part), deviation = values.subarray(-DEVIATIONS);
    tables = { signs: values.subarray(0, SIGNS), shift, share, spread, deviation };
  }
  if (loaded.name === model.name) return;
  const content = await fetchOnce(model);
  await loaded.session?.release();
  loaded = { name: null, session: null };
  loaded = { name: model.name, session: await ort.InferenceSession.create(content, { executionProviders: [provider] }) };
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

async function computeTile(model, rgba, tile, level, share, width, clips) {
  const given = model.channels, rows = tile.outerBottom - tile.outerTop, columns = tile.outerRight - tile.outerLeft;
  const count = rows * columns, part = cut(rgba, width, tile);
  const infer = async (pixels) => {
    // A gray network takes each plane of a color picture as a picture.
    const inputs = { image: new ort.Tensor("float32", pixels, [3 / given, given, rows, columns]) };
    if (!model.blind) inputs.sigma = new ort.Tensor("float32", Float32Array.of(level), [1]);
    const outputs = await loaded.session.run(inputs), values = Float32Array.from(await outputs.denoised.getData());
    outputs.denoised.dispose();
    if (clips.gray) // three equal planes have one estimate
      for (let i = 0; i < count; i++) {
        const mean = (values[i] + values[i + count] + values[i + 2 * count]) / 3;
        values[i] = values[i + count] = values[i + 2 * count] = mean;
      }
    return values;
  };
  const estimate = await infer(part);
  let change = null;
  if (!model.blind && level < NO_BLEND) {
    const { probe, distance, moved } = moveTile(part, tile, level, rows, columns, clips.gray, tables.signs);
    change = (await infer(moved)).map((value, i) => (level / distance) * probe[i] * (value - estimate[i]));
  }
  if (model.blind) {
    for (let i = 0; i < estimate.length; i++) estimate[i] = part[i] + share * (estimate[i] - part[i]);
  } else {
    undoClipping(estimate, part, level, rows, columns, clips, tables);
    if (change) blend(estimate, part, level, change, rows, columns);
  }
  const across = tile.right - tile.left, down = tile.bottom - tile.top, pixels = new Uint8ClampedArray(4 * across * down);
  for (let y = 0; y < down; y++)
    for (let x = 0; x < across; x++) {
      const from = (y + tile.top - tile.outerTop) * columns + x + tile.left - tile.outerLeft, to = 4 * (y * across + x);
      for (let c = 0; c < 3; c++) pixels[to + c] = Math.round(255 * estimate[c * count + from]);
      pixels[to + 3] = 255;
    }
  return pixels;
}

// Whether a picture holds black and white, and whether it is gray.
function examine(rgba) {
  const clips = { black: false, white: false, gray: true };
  for (let i = 0; i < rgba.length; i += 4) {
    const [low, high] = [Math.min(rgba[i], rgba[i + 1], rgba[i + 2]), Math.max(rgba[i], rgba[i + 1], rgba[i + 2])];
    clips.black ||= low === 0;
    clips.white ||= high === 255;
    clips.gray &&= low === high;
  }
  return clips;
}

async function run({ job, model, rgba, height, width, sigma, forced }) {
  await load(model, forced);
  const clips = examine(rgba), tiles = cutTiles(height, width);
  if (sigma === null && !model.blind) {
    sigma = estimateSigma(rgba, height, width, tables.deviation);
    postMessage({ kind: "level", job, sigma });
    sigma = Math.sqrt(Math.max(0, sigma ** 2 - UNSURE[clips.gray ? "gray" : "color"] ** 2));
  }
  const share = model.blind ? blindShare(rgba, height, width, tables.deviation) : 1;
  for (const [index, tile] of tiles.entries()) {
    await new Promise((resume) => setTimeout(resume)); // messages come in between
    if (job !== wanted) return;
    const pixels = await computeTile(model, rgba, tile, sigma / 255, share, width, clips);
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
