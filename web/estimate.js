// The noise level of a picture in 8-bit levels, as denoiser/analysis/noise_level.py estimates it; that file says why it
// is so, and a test compares the two. Planes are Float32Array in [0, 1] of height x width.
import { cellMeans, neighborMeans } from "./correct.js";

const MAX_CLIPPED = 0.01, MIN_GRAPHICS = 0.6;
const PATCH = 8, MAX_PATCHES = 15000, MIN_PATCHES = 2000, MAX_COLORS = 250000;
const BLOCK = 8, MIN_WHITE = 0.9, QUIET = 0.02, QUIET_SHARE = 0.75, TO_SIGMA = 255 / 0.6744897501960817;
const SAMPLES = 4, SAMPLE_SIDE = 384, CONSTANT_BLOCK = 4, MIN_BLOCKS = 64;
const HIGH_PASS = [-0.48296291314453416, 0.8365163037378079, -0.2241438680420134, -0.12940952255126037]; // db2

// `deviation` is a table of build.py: what is left of noise of which 0 to 0.5 is clipped.
export function estimateSigma(rgba, height, width, deviation) {
  const picture = samplePlanes(rgba, height, width);
  if (Math.min(height, width) < 4 || isGraphic(rgba, height, width)) return 0;
  if (picture.spread < 1.5) {
    const gray = { ...picture, planes: [combine(picture.planes, [1 / 3, 1 / 3, 1 / 3])] };
    const lost = picture.planes.map((plane) => standardDeviation(plane.map((value, i) => value - gray.planes[0][i])));
    return Math.hypot(fromWavelets(gray, deviation), (255 * (lost[0] + lost[1] + lost[2])) / 3);
  }
  const level = fromWavelets(picture, deviation), directions = colorDirections(picture);
  const smallest = directions.length > 1 ? fromPatches(picture, directions) : null;
  if (smallest === null) return level;
  const { values } = diagonal(combine(picture.planes, directions[0]), picture.height, picture.width);
  const white = smallest > MIN_WHITE && median(values) * TO_SIGMA < 1.25 * smallest;
  return white || smallest > 0.6 * level ? smallest : level;
}

const combine = (planes, weights) =>
  planes[0].map((_, i) => planes.reduce((sum, plane, c) => sum + weights[c] * plane[i], 0));

function standardDeviation(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}

function quantile(sorted, share) {
  const at = share * (sorted.length - 1), low = Math.floor(at);
  return sorted[low] + (at - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]);
}
const median = (values) => quantile(Float32Array.from(values, Math.abs).sort(), 0.5);

// The picture, or of a large one a mosaic of evenly spaced parts; `spread` is the largest difference of a pixel's colors.
function samplePlanes(rgba, height, width) {
  const side = SAMPLES * SAMPLE_SIDE, sampled = height * width > 2 * side ** 2 && Math.min(height, width) >= side;
  const axis = (size) => Array.from({ length: sampled ? side : size }, (_, i) =>
    sampled ? Math.trunc((Math.floor(i / SAMPLE_SIDE) * (size - SAMPLE_SIDE)) / (SAMPLES - 1)) + (i % SAMPLE_SIDE) : i);
  const rows = axis(height), columns = axis(width), count = rows.length * columns.length;
  const planes = Array.from({ length: 3 }, () => new Float32Array(count));
  let spread = 0, to = 0;
  for (const y of rows)
    for (const x of columns) {
      const at = 4 * (y * width + x), [r, g, b] = [rgba[at], rgba[at + 1], rgba[at + 2]];
      spread = Math.max(spread, Math.max(r, g, b) - Math.min(r, g, b));
      planes[0][to] = r / 255;
      planes[1][to] = g / 255;
      planes[2][to++] = b / 255;
    }
  return { planes, height: rows.length, width: columns.length, spread };
}

function isGraphic(rgba, height, width) {
  const rows = Math.floor(height / CONSTANT_BLOCK), columns = Math.floor(width / CONSTANT_BLOCK);
  if (rows * columns < MIN_BLOCKS) return false;
  let constants = 0, betweens = 0, both = 0;
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      let constant = true, between = true;
      for (let channel = 0; channel < 3; channel++) {
        let low = 255, high = 0;
        for (let y = 0; y < CONSTANT_BLOCK; y++)
          for (let x = 0; x < CONSTANT_BLOCK; x++) {
            const value = rgba[4 * ((r * CONSTANT_BLOCK + y) * width + c * CONSTANT_BLOCK + x) + channel];
            low = Math.min(low, value);
            high = Math.max(high, value);
          }
        constant &&= low === high;
        between &&= low > 0 && high < 255;
      }
      constants += constant;
      betweens += between;
      both += constant && between;
    }
  const count = rows * columns;
  return both / count > 0.4 || (constants / count > 0.05 && betweens / count < 0.05);
}

// The share of values 0 or 1 around each pixel of a grid of rows x columns that lies over the plane; null for none.
function clippedShare(plane, height, width, rows, columns) {
  if (!plane.some((value) => value === 0 || value === 1)) return () => 0;
  const share = neighborMeans(cellMeans(plane.map((value) => +(value === 0 || value === 1)), height, width), false);
  return (y, x) =>
    share.cells[Math.floor((y * share.rows) / rows) * share.columns + Math.floor((x * share.columns) / columns)];
}

// The finest diagonal wavelet coefficients, the border mirrored.
function diagonal(plane, height, width) {
  const pass = (at, size) => HIGH_PASS.map((_, j) => {
    const place = 2 * at + 1 - j;
    return place < 0 ? -1 - place : place >= size ? 2 * size - 1 - place : place;
  });
  const rows = (height + 3) >> 1, columns = (width + 3) >> 1;
  const xs = Array.from({ length: columns }, (_, x) => pass(x, width));
  const across = new Float32Array(height * columns), values = new Float32Array(rows * columns);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < columns; x++)
      for (let j = 0; j < 4; j++) across[y * columns + x] += HIGH_PASS[j] * plane[y * width + xs[x][j]];
  for (let y = 0; y < rows; y++) {
    const ys = pass(y, height);
    for (let x = 0; x < columns; x++)
      for (let j = 0; j < 4; j++) values[y * columns + x] += HIGH_PASS[j] * across[ys[j] * columns + x];
  }
  return { values, rows, columns };
}

function fromWavelets({ planes, height, width }, deviation) {
  const levels = [], medians = [];
  for (const plane of planes) {
    const { values, rows, columns } = diagonal(plane, height, width), unclipped = [], valid = [];
    const share = clippedShare(plane, height, width, rows, columns);
    for (let y = 0; y < rows; y++)
      for (let x = 0; x < columns; x++) {
        const value = Math.abs(values[y * columns + x]), clipped = share(y, x);
        if (value <= 1e-6 || clipped >= MIN_GRAPHICS) continue;
        if (clipped < MAX_CLIPPED) unclipped.push(value);
        valid.push(value / deviation[Math.round(2 * (deviation.length - 1) * Math.min(clipped, 0.5))]);
      }
    const coefficients = unclipped.length > 0.1 * valid.length ? unclipped : valid;
    if (coefficients.length) levels.push(median(coefficients) * TO_SIGMA);
    for (let top = 0; top + BLOCK <= rows; top += BLOCK)
      for (let left = 0; left + BLOCK <= columns; left += BLOCK) {
        const block = [];
        for (let y = top; y < top + BLOCK; y++)
          for (let x = left; x < left + BLOCK; x++) if (share(y, x) < MAX_CLIPPED) block.push(values[y * columns + x]);
        const middle = block.length === BLOCK ** 2 ? median(block) : 0;
        if (middle > 1e-6) medians.push(middle * TO_SIGMA);
      }
  }
  const overall = levels.reduce((sum, value) => sum + value, 0) / Math.max(1, levels.length);
  const quiet = medians.length ? quantile(Float64Array.from(medians).sort(), QUIET) / QUIET_SHARE : overall;
  return overall < 1.1 * quiet ? overall : quiet;
}

// Principal directions of the colors with a deviation above one level, the least first.
function colorDirections({ planes, height, width }) {
  const every = Math.max(1, Math.trunc(Math.sqrt((height * width) / MAX_COLORS))), colors = [];
  for (let y = 0; y < height; y += every)
    for (let x = 0; x < width; x += every) colors.push(planes.map((plane) => plane[y * width + x]));
  const { values, vectors } = eigen(covariance(colors, 3), 3, true);
  return [0, 1, 2].filter((i) => values[i] > 1 / 255 ** 2).sort((one, other) => values[one] - values[other])
    .map((i) => vectors.map((row) => row[i]));
}

function fromPatches({ planes, height, width }, directions) {
  const down = height - PATCH + 1, across = width - PATCH + 1;
  if (Math.min(down, across) < 1) return null;
  const step = Math.max(1, Math.trunc(Math.sqrt((down * across) / (16 * MAX_PATCHES))));
  const rows = Math.ceil(down / step), columns = Math.ceil(across / step), places = [];
  const shares = planes.map((plane) => clippedShare(plane, height, width, rows, columns));
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++)
      if (shares.every((share) => share(r, c) < MAX_CLIPPED)) places.push(step * (r * width + c));
  if (places.length < MIN_PATCHES) return null;
  const every = Math.ceil(places.length / MAX_PATCHES);
  const along = directions.length < 3 ? directions.map((weights) => combine(planes, weights)) : planes;
  const patches = places.filter((_, i) => i % every === 0).map((place) => {
    const patch = new Float64Array(along.length * PATCH ** 2);
    let to = 0;
    for (const plane of along)
      for (let y = 0; y < PATCH; y++) for (let x = 0; x < PATCH; x++) patch[to++] = plane[place + y * width + x];
    return patch;
  });
  const size = along.length * PATCH ** 2, values = eigen(covariance(patches, size), size).values.sort();
  // The largest set of smallest eigenvalues whose mean does not exceed its median is noise only.
  let sum = values.reduce((total, value) => total + value, 0), mean = 0;
  for (let count = size; count > 0; sum -= values[--count]) {
    mean = sum / count;
    const below = values.findIndex((value) => value >= mean); // of these: all before it are below
    let above = count;
    while (above > 0 && values[above - 1] > mean) above--;
    if (count - above >= Math.min(below < 0 ? count : below, count)) break;
  }
  return 255 * Math.sqrt(Math.max(mean, 0));
}

function covariance(samples, size) {
  const mean = new Float64Array(size), matrix = Array.from({ length: size }, () => new Float64Array(size));
  for (const sample of samples) for (let i = 0; i < size; i++) mean[i] += sample[i] / samples.length;
  const none = mean, four = Array.from({ length: 4 }, () => new Float64Array(size));
  for (let at = 0; at < samples.length; at += 4) { // four at a time: a third of the time
    for (let k = 0; k < 4; k++) for (let i = 0; i < size; i++) four[k][i] = (samples[at + k] ?? none)[i] - mean[i];
    const [a, b, c, d] = four;
    for (let i = 0; i < size; i++) {
      const row = matrix[i], [x, y, z, w] = [a[i], b[i], c[i], d[i]];
      for (let j = 0; j <= i; j++) row[j] += x * a[j] + y * b[j] + z * c[j] + w * d[j];
    }
  }
  for (let i = 0; i < size; i++) for (let j = 0; j <= i; j++) matrix[j][i] = matrix[i][j] /= samples.length;
  return matrix;
}

// Eigenvalues of a symmetric matrix by Jacobi's rotations, and, if wanted, its eigenvectors as columns.
function eigen(matrix, size, wanted = false) {
  const vectors = wanted ? matrix.map((_, i) => Float64Array.from(matrix, (_, j) => +(i === j))) : [];
  const scale = matrix.reduce((sum, row, i) => sum + Math.abs(row[i]), 0) / size;
  for (let sweep = 0; sweep < 30; sweep++) {
    let off = 0;
    for (let p = 0; p < size; p++)
      for (let q = p + 1; q < size; q++) {
        const value = matrix[p][q];
        off = Math.max(off, Math.abs(value));
        if (Math.abs(value) < 1e-9 * scale) continue;
        const ratio = (matrix[q][q] - matrix[p][p]) / (2 * value);
        const t = (ratio < 0 ? -1 : 1) / (Math.abs(ratio) + Math.sqrt(ratio ** 2 + 1));
        const c = 1 / Math.sqrt(t ** 2 + 1), s = t * c;
        const [first, second] = [matrix[p], matrix[q]];
        for (let k = 0; k < size; k++) {
          const row = matrix[k], a = row[p], b = row[q];
          row[p] = c * a - s * b;
          row[q] = s * a + c * b;
        }
        for (let k = 0; k < size; k++) {
          const a = first[k], b = second[k];
          first[k] = c * a - s * b;
          second[k] = s * a + c * b;
        }
        for (const row of vectors) {
          const a = row[p], b = row[q];
          row[p] = c * a - s * b;
          row[q] = s * a + c * b;
        }
      }
    if (off < 1e-7 * scale) break;
  }
  return { values: Float64Array.from(matrix, (row, i) => row[i]), vectors };
}
