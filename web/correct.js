// What the library does with the network's estimate, for planes of a picture in [0, 1]:
// undoClipping is denoiser/analysis/clipping.py, blend is denoiser/analysis/weak_noise.py. A test compares the
// results with the library's. Planes are Float32Array of channels x height x width.
const CELL = 8, BINS = 1000, REACH = 1500;
export const NO_BLEND = 8 / 255;
const FULL_BLEND = 6 / 255, BLEND_CELL = 4, MIN_DISTANCE = 0.5 / 255, CLIPPED = Math.sqrt(2 / Math.PI), SIGNS = 64;
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// The mean over square cells.
export function cellMeans(plane, height, width, side = CELL) {
  const rows = Math.ceil(height / side), columns = Math.ceil(width / side), cells = new Float64Array(rows * columns);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) cells[Math.floor(y / side) * columns + Math.floor(x / side)] += plane[y * width + x];
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++)
      cells[r * columns + c] /= Math.min(side, height - r * side) * Math.min(side, width - c * side);
  return { cells, rows, columns };
}

// The mean of each cell and its neighbors; beyond the border they do not count, or with `replicate` the border goes on.
export function neighborMeans({ cells, rows, columns }, replicate) {
  const means = new Float64Array(cells.length);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      let sum = 0, count = 0;
      for (let i = r - 1; i <= r + 1; i++)
        for (let j = c - 1; j <= c + 1; j++) {
          if (!replicate && (i < 0 || j < 0 || i >= rows || j >= columns)) continue;
          sum += cells[clamp(i, 0, rows - 1) * columns + clamp(j, 0, columns - 1)];
          count++;
        }
      means[r * columns + c] = sum / count;
    }
  return { cells: means, rows, columns };
}

// Cells scaled to pixels, bilinearly, with centers aligned (torch's align_corners=False).
function toPixels({ cells, rows, columns }, height, width, side = CELL) {
  const axis = (count, size) => Array.from({ length: size }, (_, index) => {
    const at = Math.max((index + 0.5) / side - 0.5, 0), low = Math.min(Math.floor(at), count - 1);
    return [low, Math.min(low + 1, count - 1), at - low];
  });
  const ys = axis(rows, height), xs = axis(columns, width), pixels = new Float32Array(height * width);
  for (let y = 0; y < height; y++) {
    const [top, bottom, v] = ys[y];
    for (let x = 0; x < width; x++) {
      const [left, right, u] = xs[x];
      const above = cells[top * columns + left] * (1 - u) + cells[top * columns + right] * u;
      const below = cells[bottom * columns + left] * (1 - u) + cells[bottom * columns + right] * u;
      pixels[y * width + x] = above * (1 - v) + below * v;
    }
  }
  return pixels;
}

// Noise that was cut off at 0 has a mean above 0: the estimate of one plane is moved back by the tables of build.py.
function undoBlack(values, observed, level, height, width, { shift, share, spread }) {
  const last = shift.length - 1, count = height * width, where = new Int32Array(count);
  const [zeros, squares] = [new Float32Array(count), new Float32Array(count)];
  // What to expect is looked up for every second pixel of every second row.
  const rows = Math.ceil(height / 2), columns = Math.ceil(width / 2);
  const [shares, variances] = [new Float32Array(rows * columns), new Float32Array(rows * columns)];
  for (let i = 0; i < count; i++) {
    const at = Math.trunc(clamp(values[i] * (BINS / level), 0, last)), y = Math.floor(i / width), x = i % width;
    where[i] = at;
    zeros[i] = observed[i] === 0 ? 1 : 0;
    squares[i] = at < REACH ? (observed[i] - values[i]) ** 2 : 0;
    if (y % 2 || x % 2) continue;
    shares[(y * columns + x) / 2] = share[at];
    variances[(y * columns + x) / 2] = spread[at] * level ** 2;
  }
  const mean = (plane) => neighborMeans(cellMeans(plane, height, width), false);
  const meanOfSome = (plane) => neighborMeans(cellMeans(plane, rows, columns, CELL / 2), false);
  const clipped = mean(zeros), noise = mean(squares), expected = meanOfSome(shares), remaining = meanOfSome(variances);
  const weights = clipped.cells.map((value, i) => {
    const seen = Math.min((1.25 * value) / Math.max(expected.cells[i], 1e-3), 1);
    const left = Math.min((1.25 * noise.cells[i]) / Math.max(remaining.cells[i], 1e-12), 1);
    return seen ** 2 * left ** 2;
  });
  const weight = toPixels({ ...clipped, cells: weights }, height, width);
  for (let i = 0; i < count; i++) values[i] += weight[i] * shift[where[i]] * level;
}

// Changes `estimate`, the network's for `noisy`; `clips` says whether the whole picture holds black and white.
export function undoClipping(estimate, noisy, level, height, width, clips, tables) {
  if (level < 1e-6) return;
  const count = height * width;
  for (let start = 0; start < estimate.length; start += count) {
    const values = estimate.subarray(start, start + count), observed = noisy.subarray(start, start + count);
    if (clips.black) undoBlack(values, observed, level, height, width, tables);
    if (clips.white) {
      const inverted = values.map((value) => 1 - value);
      undoBlack(inverted, observed.map((value) => 1 - value), level, height, width, tables);
      for (let i = 0; i < count; i++) values[i] = 1 - inverted[i];
    }
  }
}

// The probe of a tile, and the tile moved along it; a gray picture has the same signs in its three planes.
export function moveTile(noisy, { outerTop, outerLeft }, level, height, width, gray, signs) {
  const probe = new Float32Array(noisy.length), distance = Math.max(level / 4, MIN_DISTANCE), count = height * width;
  for (let i = 0; i < noisy.length; i++) {
    if (noisy[i] === 0 || noisy[i] === 1) continue;
    const y = (outerTop + Math.floor((i % count) / width)) % SIGNS, x = (outerLeft + (i % width)) % SIGNS;
    probe[i] = signs[3 * (y * SIGNS + x) + (gray ? 0 : Math.floor(i / count))];
  }
  return { probe, distance, moved: noisy.map((value, i) => value + distance * probe[i]) };
}

// Changes `estimate`: it is blended with the input. `change` is what the estimate changes along the probe, by `level`.
export function blend(estimate, noisy, level, change, height, width, step = 1 / 255) {
  const count = height * width, channels = estimate.length / count;
  const product = new Float32Array(count), energy = new Float32Array(count);
  const scale = level > 0 ? level + step ** 2 / 12 / level : 0;
  for (let i = 0; i < estimate.length; i++) {
    const removed = noisy[i] - estimate[i], cut = noisy[i] === 0 ? 1 : noisy[i] === 1 ? -1 : 0;
    product[i % count] += (scale * ((cut ? 0 : level) - change[i]) + CLIPPED * level * cut * removed) / channels;
    energy[i % count] += removed ** 2 / channels;
  }
  const local = (plane) =>
    toPixels(neighborMeans(cellMeans(plane, height, width, BLEND_CELL), true), height, width, BLEND_CELL);
  const products = local(product), energies = local(energy);
  const fade = clamp((level - FULL_BLEND) / (NO_BLEND - FULL_BLEND), 0, 1);
  for (let i = 0; i < estimate.length; i++) {
    const best = clamp(products[i % count] / Math.max(energies[i % count], 1e-12), 0, 1);
    const share = level > 0 ? best + fade * (1 - best) : 0;
    estimate[i] = noisy[i] + share * (estimate[i] - noisy[i]);
  }
}
