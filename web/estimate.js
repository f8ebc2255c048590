// The noise level of a picture in 8-bit levels, as denoiser/analysis/noise_level.py estimates it; that file says why it
// is so, and a test compares the two. Planes are Float32Array in [0, 1] of height x width.
import { cellMeans, neighborMeans } from "./correct.js";

const MAX_CLIPPED = 0.1, MIN_GRAPHICS = 0.75, MAX_TOGETHER = 0.5;
const PATCH = 8, MAX_PATCHES = 20000, MIN_PATCHES = 200, MAX_COLORS = 250000;
const QUIET = 0.03, MANY = 0.3, AGREE = 1.15, MIN_WHITE = 0.45, MAX_DISTANCE = 0.2, TO_SIGMA = 255 / 0.6744897501960817;
const MIDDLE = PATCH - 3, FINE = PATCH, END = 2 * PATCH;
const PARTS = 3, PART_SIDE = 128, BLOCK = 16, CELL = 4, QUIET_BLOCKS = 0.2, LOW_BLOCKS = 0.25;
const HALF_GRAIN = 0.42, OF_TEXTURE = 0.02, HALF_LEVEL = 2.5, STEEP = 6, MIN_SHARE = 0.05;
const FINEST = 12, FALL = 0.54, MIN_FALL = 0.07, CHANCE = 4, MAX_TEXTURE = 5, MIN_RISE = 2;
const SAMPLES = 4, SAMPLE_SIDE = 384, CONSTANT_BLOCK = 4, MIN_BLOCKS = 64, FEW_VALUES = 4, MIN_GAP = 16, FEW_COLORS = 64, FEW_OF_ALL = 0.25, MIN_ALIKE = 0.1;
const MIN_FLAT = 0.003, FEW_TONES = 4, MOST = 0.9, NEAR = 4, MIN_LEFT = 0.15, MIN_SIDE = 16, MAX_CELLS = 10000;
const QUIETEST = 0.005, MIN_RANGE = 3, MIN_STEPS = 2.5, MIN_TONES = 32, MIN_COLORS = 256, SEEN_COLORS = 100000;
const SQUARE = 64, SQUARES = 6, FEWEST_SQUARES = 4, FINE_CYCLES = 0.2, NEAR_LINES = 7, BETWEEN_LINES = 0.1, EVEN = 0.5, LEAST = 0.6;

// `deviation` is a table of build.py: what is left of noise of which 0 to 0.5 is clipped.
export function estimateSigma(whole, wholeHeight, wholeWidth, deviation) {
  const { rgba, height, width } = measuredParts(whole, wholeHeight, wholeWidth);
  const picture = samplePlanes(rgba, height, width);
  if (Math.min(height, width) < 4 || isGraphic(rgba, height, width, 1.01 * largest(picture))) return 0;
  const level = levelOfLargePatches(picture, deviation), small = levelOfSmallPatches(picture, deviation);
  const found = Math.min(small < 0.9 * level ? small : level, highestLevel(picture));
  return found && isPattern(rgba, height, width, found) ? 0 : found;
}

function highestLevel({ planes }) {
  let sum = 0, count = 0;
  for (const plane of planes)
    for (const value of plane) {
      const distance = Math.min(value, 1 - value);
      sum += distance ** 2;
      count += distance > 0;
    }
  const level = Math.sqrt(sum / count); // NaN where all is black or white
  return level < MAX_DISTANCE ? 255 * level : Infinity;
}

const largest = ({ planes }) => planes.reduce((most, plane) => plane.reduce((a, b) => Math.max(a, b), most), 0);

function levelOfLargePatches(picture, deviation) {
  if (picture.spread < 1.5) {
    const gray = { ...picture, planes: [combine(picture.planes, [1 / 3, 1 / 3, 1 / 3])] };
    const lost = picture.planes.map((plane) => standardDeviation(plane.map((value, i) => value - gray.planes[0][i])));
    return Math.hypot(levelWithoutColor(gray, deviation), (255 * (lost[0] + lost[1] + lost[2])) / 3);
  }
  const directions = colorDirections(picture), clipped = picture.planes.map((plane) => clippedShares(plane, picture));
  const share = clipped[0].map((_, i) => Math.max(...clipped.map((shares) => shares[i])));
  const unclipped = share.reduce((sum, value) => sum + (value < MAX_CLIPPED), 0);
  if (directions.length < 2 || unclipped < MIN_PATCHES) return levelWithoutColor(picture, deviation);
  const colors = directions.slice(0, 2).map((one) =>
    patches(combine(picture.planes, one), picture, share, deviation).filter((_, i) => share[i] < MAX_CLIPPED));
  const levels = colors.map((one) => levelOf(one, picture)), smallest = Math.min(...levels);
  const color = colors[levels.indexOf(smallest)];
  const middle = levelOf(color, picture, MIDDLE, FINE) / smallest, finest = levelOf(color, picture, FINEST) / smallest;
  if (smallest > MIN_WHITE && (middle < 1.25 || (middle < 1.6 && finest > 0.9))) return smallest;
  const level = levelWithoutColor(picture, deviation), left = lessTexture(color, picture);
  return left > 0.6 * level ? left : level;
}

function levelOfSmallPatches(picture, deviation) {
  const small = { ...picture, patch: PATCH / 2 }, levels = [];
  for (const plane of picture.planes) {
    if (plane.every((value) => value === plane[0])) continue;
    const share = clippedShares(plane, small);
    const chosen = patches(plane, small, share, deviation).filter((_, i) => share[i] < MAX_CLIPPED);
    if (chosen.length < MIN_PATCHES) return Infinity;
    levels.push(levelOf(chosen, small));
  }
  return levels.length ? levels.reduce((sum, value) => sum + value, 0) / levels.length : Infinity;
}

// The share of a blind network's estimate, as denoiser/analysis/weak_noise.py has it; none for graphics. `remove` gives
// what the network removes from a part of the picture, as planes.
export async function blindShare(rgba, height, width, level, remove) {
  if (Math.min(height, width) < 1 || isGraphic(rgba, height, width)) return 0;
  if (!level && isPattern(rgba, height, width)) return 0;
  const tall = Math.min(height, PART_SIDE), wide = Math.min(width, PART_SIDE), blocks = [];
  for (const top of spread(height))
    for (const left of spread(width)) {
      const part = { outerTop: top, outerBottom: top + tall, outerLeft: left, outerRight: left + wide };
      blocks.push(...measureBlocks(brightnessOf(rgba, width, part), await remove(part), tall, wide));
    }
  const quiet = quantile(blocks.map((block) => block.activity), QUIET_BLOCKS);
  const energies = blocks.filter((block) => block.activity <= quiet).map((block) => block.energy);
  const grain = blocks.length ? 255 * Math.sqrt(quantile(energies, LOW_BLOCKS)) : 0;
  const least = Math.max(HALF_GRAIN, blocks.length ? OF_TEXTURE * 255 * Math.sqrt(quiet) : 0);
  const share = 1 / (1 + Math.max(grain / least, level / HALF_LEVEL) ** -STEEP);
  return share < MIN_SHARE ? 0 : share;
}

// Where parts begin along a side, evenly spaced.
function spread(side) {
  const count = Math.min(PARTS, Math.ceil(side / PART_SIDE));
  return Array.from({ length: count }, (_, i) => (count > 1 ? Math.floor((i * (side - PART_SIDE)) / (count - 1)) : 0));
}

const brightnessOf = (rgba, width, { outerTop, outerBottom, outerLeft, outerRight }) => {
  const found = [];
  for (let y = outerTop; y < outerBottom; y++)
    for (let x = outerLeft; x < outerRight; x++) {
      const at = 4 * (y * width + x);
      found.push((rgba[at] + rgba[at + 1] + rgba[at + 2]) / 765);
    }
  return found;
};

// The variance of what is left of the brightness of each block, and the energy of what is coarse in the removed planes.
function measureBlocks(brightness, planes, height, width) {
  const size = height * width, count = planes.length / size, found = [];
  const removed = brightness.map((_, i) => {
    let sum = 0;
    for (let plane = 0; plane < count; plane++) sum += planes[plane * size + i];
    return sum / count;
  });
  for (let top = 0; top + BLOCK <= height; top += BLOCK)
    for (let left = 0; left + BLOCK <= width; left += BLOCK) {
      const cells = new Float64Array((BLOCK / CELL) ** 2), remaining = [];
      for (let y = 0; y < BLOCK; y++)
        for (let x = 0; x < BLOCK; x++) {
          const at = (top + y) * width + left + x;
          cells[(BLOCK / CELL) * Math.floor(y / CELL) + Math.floor(x / CELL)] += removed[at] / CELL ** 2;
          remaining.push(brightness[at] - removed[at]);
        }
      found.push({
        activity: standardDeviation(remaining) ** 2,
        energy: cells.reduce((sum, cell) => sum + cell ** 2, 0) / cells.length,
      });
    }
  return found;
}

const combine = (planes, weights) =>
  planes[0].map((_, i) => planes.reduce((sum, plane, c) => sum + weights[c] * plane[i], 0));

function standardDeviation(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}

function quantile(values, share) {
  const sorted = Float64Array.from(values).sort();
  const at = share * (sorted.length - 1), low = Math.floor(at);
  return sorted[low] + (at - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]);
}

// The picture without areas of one tone, as denoiser/analysis/measured_parts.py leaves them out; or the whole picture.
export function measuredParts(rgba, height, width) {
  const rows = Math.floor(height / CONSTANT_BLOCK), columns = Math.floor(width / CONSTANT_BLOCK);
  const flat = new Uint8Array(rows * columns), tones = new Map(), highs = new Set();
  let flats = 0, peak = 0;
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      const ends = blockEnds(rgba, width, r, c), range = Math.max(...ends.map(([low, high]) => high - low));
      for (const [, high] of ends) highs.add(high);
      peak = Math.max(peak, ...ends.map(([, high]) => high));
      if (range || ends.every(([low]) => low === 0 || low === 255)) continue;
      const tone = ends.map(([low]) => low).join();
      flat[r * columns + c] = 1;
      flats++;
      tones.set(tone, (tones.get(tone) ?? 0) + 1);
    }
  const frequent = [...tones.values()].sort((a, b) => b - a).slice(0, FEW_TONES).reduce((sum, count) => sum + count, 0);
  const whole = { rgba, height, width };
  if (flats <= MIN_FLAT * flat.length || frequent < MOST * flats) return whole;
  const clear = largestClear(spreadOut(flat, rows, columns), rows, columns, flat.length - flats);
  if (!clear) return whole;
  const values = [...highs].sort((a, b) => a - b), steps = values.slice(1).map((value, i) => value - values[i]);
  const part = crop(rgba, width, clear), step = Math.min(255, ...steps);
  return holdsNoise(part, Math.max((MIN_RANGE * Math.min(peak, 255)) / 255, MIN_STEPS * step)) ? part : whole;
}

// The largest rectangle of clear blocks, in pixels; null if it is small beside the `others`.
function largestClear(leftOut, rows, columns, others) {
  const step = Math.max(1, Math.round(Math.sqrt(leftOut.length / MAX_CELLS)));
  const down = Math.floor(rows / step), across = Math.floor(columns / step), heights = new Array(across).fill(0);
  let best = [0, 0, 0, 0, 0];
  for (let row = 0; row < down; row++) {
    const open = []; // [first column, height], ever higher
    for (let column = 0; column <= across; column++) {
      let height = 0, first = column;
      if (column < across) {
        let out = false;
        for (let i = 0; i < step * step; i++)
          out ||= leftOut[(row * step + Math.floor(i / step)) * columns + column * step + (i % step)] > 0;
        height = heights[column] = out ? 0 : heights[column] + 1;
      }
      while (open.length && open[open.length - 1][1] >= height) {
        const [start, tall] = open.pop(), found = [tall * (column - start), row + 1 - tall, row + 1, start, column];
        const place = found.findIndex((value, i) => value !== best[i]);
        if (place >= 0 && found[place] > best[place]) best = found;
        first = start;
      }
      open.push([first, height]);
    }
  }
  const [area, ...ends] = best, [top, bottom, left, right] = ends.map((end) => end * step * CONSTANT_BLOCK);
  const small = area * step ** 2 < MIN_LEFT * others || Math.min(bottom - top, right - left) < MIN_SIDE;
  return small ? null : { top, bottom, left, right };
}

function crop(rgba, width, { top, bottom, left, right }) {
  const part = new Uint8ClampedArray(4 * (bottom - top) * (right - left));
  for (let y = top; y < bottom; y++)
    part.set(rgba.subarray(4 * (y * width + left), 4 * (y * width + right)), 4 * (y - top) * (right - left));
  return { rgba: part, height: bottom - top, width: right - left };
}

function holdsNoise({ rgba, height, width }, least) {
  const ranges = [];
  for (let r = 0; r + 1 <= height / CONSTANT_BLOCK; r++)
    for (let c = 0; c + 1 <= width / CONSTANT_BLOCK; c++)
      ranges.push(Math.max(...blockEnds(rgba, width, r, c).map(([low, high]) => high - low)));
  if (quantile(ranges, QUIETEST) < least) return false;
  const colors = new Set(), count = height * width;
  let gray = true;
  for (let i = 0; i < count; i += Math.max(1, Math.floor(count / SEEN_COLORS))) {
    const [r, g, b] = [rgba[4 * i], rgba[4 * i + 1], rgba[4 * i + 2]];
    gray &&= r === g && g === b;
    colors.add((r << 16) + (g << 8) + b);
  }
  if (colors.size < (gray ? MIN_TONES : MIN_COLORS)) return false;
  return !isPattern(rgba, height, width);
}

// Whether the quiet squares hold a drawn pattern: little of their energy is between the lines of its spectrum.
function isPattern(rgba, height, width, level = Infinity) {
  const shorter = Math.min(height, width), side = shorter >= 1.5 * SQUARE ? SQUARE : SQUARE / 2;
  if (shorter < 1.5 * side) return false;
  const [rows, columns] = [height, width].map((size) => {
    const count = Math.min(SQUARES, Math.ceil(size / side));
    return Array.from({ length: count }, (_, i) => Math.trunc((i * (size - side)) / (count - 1)));
  });
  const cycles = Float64Array.from({ length: side }, (_, i) => Math.min(i, side - i) / side);
  const fine = Array.from({ length: side ** 2 }, (_, i) =>
    Math.hypot(cycles[Math.floor(i / side)], cycles[i % side]) > FINE_CYCLES);
  const sum = (energies) => energies.reduce((all, value, i) => all + (fine[i] ? value : 0), 0);
  const squares = rows.flatMap((top) => columns.map((left) => {
    const planes = [0, 1, 2].map((channel) => energiesOf(rgba, width, top, left, channel, side));
    return { planes, total: planes.reduce((all, energies) => all + sum(energies), 0) };
  })).filter((square) => square.total > 1e-6).sort((a, b) => a.total - b.total);
  if (squares.length < FEWEST_SQUARES) return false;
  const quiet = squares.slice(0, Math.max(FEWEST_SQUARES, Math.floor(squares.length / 4)));
  let [shares, evenness, least] = [0, 0, 0];
  for (let channel = 0; channel < 3; channel++) {
    const mean = quiet[0].planes[channel].map((_, i) =>
      quiet.reduce((all, square) => all + square.planes[channel][i], 0) / quiet.length);
    const between = mean.map((_, i) => (fine[i] ? lowerQuarter(mean, i, side) : 0));
    shares += sum(between) / Math.max(sum(mean), 1e-12) / 3;
    const [weakest, strongest] = [0.05, 0.95].map((share) => quantile(between.filter((_, i) => fine[i]), share));
    evenness += weakest / Math.max(strongest, 1e-12) / 3;
    least += weakest / 3;
  }
  const energy = hann(side).reduce((all, value) => all + value ** 2, 0) ** 2; // of the window
  return shares < BETWEEN_LINES && evenness < EVEN && least < ((LEAST * level) / 255) ** 2 * energy;
}

// The lower quarter of the energies around a place of a spectrum, which goes on at its other side.
function lowerQuarter(energies, place, side) {
  const near = new Float64Array(NEAR_LINES ** 2), reach = (NEAR_LINES - 1) / 2;
  for (let y = 0; y < NEAR_LINES; y++)
    for (let x = 0; x < NEAR_LINES; x++) {
      const u = (Math.floor(place / side) + y - reach + side) % side, v = (place + x - reach + side) % side;
      near[y * NEAR_LINES + x] = energies[u * side + v];
    }
  return near.sort()[Math.floor(near.length / 4)];
}

const hann = (side) =>
  Float64Array.from({ length: side }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 1)) / (side + 1)));

// The energies of a plane's square under a window, by their frequencies down and across.
function energiesOf(rgba, width, top, left, channel, side) {
  const real = new Float64Array(side ** 2), imaginary = new Float64Array(side ** 2);
  const values = new Float64Array(side ** 2), found = new Float64Array(side ** 2);
  const turns = Array.from({ length: side }, (_, i) => (2 * Math.PI * i) / side);
  const cosine = turns.map(Math.cos), sine = turns.map(Math.sin);
  const window = hann(side);
  for (let i = 0; i < values.length; i++)
    values[i] = rgba[4 * ((top + Math.floor(i / side)) * width + left + (i % side)) + channel] / 255;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++) {
      const value = (values[y * side + x] - mean) * window[y] * window[x];
      for (let v = 0; v <= side / 2; v++) {
        real[y * side + v] += value * cosine[(v * x) % side];
        imaginary[y * side + v] -= value * sine[(v * x) % side];
      }
    }
  for (let u = 0; u < side; u++)
    for (let v = 0; v <= side / 2; v++) {
      let [a, b] = [0, 0];
      for (let y = 0; y < side; y++) {
        const [c, s] = [cosine[(u * y) % side], sine[(u * y) % side]];
        a += real[y * side + v] * c + imaginary[y * side + v] * s;
        b += imaginary[y * side + v] * c - real[y * side + v] * s;
      }
      // Of a real plane the other half is the same, turned.
      found[u * side + v] = found[((side - u) % side) * side + ((side - v) % side)] = a ** 2 + b ** 2;
    }
  return found;
}

// The lowest and the highest value of a block in each of the three planes.
function blockEnds(rgba, width, row, column) {
  return [0, 1, 2].map((channel) => {
    let low = 255, high = 0;
    for (let y = 0; y < CONSTANT_BLOCK; y++)
      for (let x = 0; x < CONSTANT_BLOCK; x++) {
        const value = rgba[4 * ((row * CONSTANT_BLOCK + y) * width + column * CONSTANT_BLOCK + x) + channel];
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
    return [low, high];
  });
}

function spreadOut(flat, rows, columns) {
  const found = new Uint8Array(flat.length);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      if (!flat[r * columns + c]) continue;
      for (let y = Math.max(r - NEAR, 0); y <= Math.min(r + NEAR, rows - 1); y++)
        found.fill(1, y * columns + Math.max(c - NEAR, 0), y * columns + Math.min(c + NEAR, columns - 1) + 1);
    }
  return found;
}

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

function isGraphic(rgba, height, width, spread = 0) {
  const rows = Math.floor(height / CONSTANT_BLOCK), columns = Math.floor(width / CONSTANT_BLOCK);
  if (rows * columns < MIN_BLOCKS) return false;
  let constants = 0, betweens = 0, both = 0;
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      const ends = blockEnds(rgba, width, r, c);
      const constant = ends.every(([low, high]) => high - low <= spread);
      const between = ends.every(([low, high]) => low > 0 && high < 255);
      constants += constant;
      betweens += between;
      both += constant && between;
    }
  const count = rows * columns;
  if (both / count > 0.4 || (constants / count > 0.05 && betweens / count < 0.05)) return true;
  if ([0, 1, 2].every((channel) => hasFewValues(rgba, channel))) return true;
  return hasFewColors(rgba, width);
}

function hasFewColors(rgba, width) {
  const colors = new Set(), values = [new Set(), new Set(), new Set()];
  let colored = false;
  for (let at = 0; at < rgba.length && colors.size <= FEW_COLORS; at += 4) {
    const [red, green, blue] = rgba.subarray(at, at + 3);
    colors.add((red << 16) | (green << 8) | blue);
    [red, green, blue].forEach((value, channel) => values[channel].add(value));
    colored ||= red !== green || red !== blue;
  }
  if (!colored) return colors.size <= FEW_COLORS && hasAreasOfFewTones(rgba, width, [...values[0]]);
  const possible = values.reduce((product, { size }) => product * size, 1);
  return colors.size <= Math.min(FEW_COLORS, FEW_OF_ALL * possible);
}

function hasAreasOfFewTones(rgba, width, tones) {
  if (tones.length > FEW_OF_ALL * (Math.max(...tones) - Math.min(...tones) + 1)) return false;
  let squares = 0, alike = 0;
  for (let at = 0; at + 4 * width < rgba.length; at += 4) {
    if ((at / 4 + 1) % width === 0) continue;
    const tone = rgba[at], same = [4, 4 * width, 4 * width + 4].every((next) => rgba[at + next] === tone);
    if (same && (tone === 0 || tone === 255)) continue;
    squares++;
    alike += same;
  }
  return alike > MIN_ALIKE * squares;
}

function hasFewValues(rgba, channel) {
  const values = new Set();
  for (let at = channel; at < rgba.length && values.size <= FEW_VALUES; at += 4) values.add(rgba[at]);
  const sorted = [...values].sort((a, b) => a - b);
  return values.size <= FEW_VALUES && sorted.every((value, at) => !at || value - sorted[at - 1] > MIN_GAP);
}

// A regular grid of patches of `tall` x `wide` pixels, `step` pixels apart.
function grid({ height, width, patch = PATCH }) {
  const tall = Math.min(patch, height), wide = Math.min(patch, width), down = height - tall + 1, across = width - wide + 1;
  const step = Math.max(1, Math.round(Math.sqrt((down * across) / MAX_PATCHES)));
  return { tall, wide, step, rows: Math.ceil(down / step), columns: Math.ceil(across / step) };
}

// The share of values 0 or 1 around each patch.
function clippedShares(plane, picture) {
  const { height, width } = picture, { rows, columns } = grid(picture);
  const shares = new Float64Array(rows * columns);
  if (!plane.some((value) => value === 0 || value === 1)) return shares;
  const around = neighborMeans(cellMeans(plane.map((value) => +(value === 0 || value === 1)), height, width), false);
  return shares.map((_, i) => around.cells[
    Math.floor((Math.floor(i / columns) * around.rows) / rows) * around.columns
    + Math.floor(((i % columns) * around.columns) / columns)]);
}

function cosines(side) {
  return Array.from({ length: side }, (_, k) => Array.from({ length: side }, (_, n) =>
    Math.sqrt((k ? 2 : 1) / side) * Math.cos((Math.PI * (n + 0.5) * k) / side)));
}

// The cosine coefficients of the patches, made larger by what clipping has taken of their noise.
function patches(plane, picture, share, deviation) {
  const { width } = picture, { tall, wide, step, rows, columns } = grid(picture);
  const down = cosines(tall), across = cosines(wide), half = new Float64Array(tall * wide), found = [];
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      const place = step * (r * width + c), patch = new Float32Array(tall * wide);
      for (let y = 0; y < tall; y++)
        for (let v = 0; v < wide; v++) {
          let sum = 0;
          for (let x = 0; x < wide; x++) sum += across[v][x] * plane[place + y * width + x];
          half[y * wide + v] = sum;
        }
      const left = deviation[Math.round(2 * (deviation.length - 1) * Math.min(share[found.length], 0.5))];
      for (let u = 0; u < tall; u++)
        for (let v = 0; v < wide; v++) {
          let sum = 0;
          for (let y = 0; y < tall; y++) sum += down[u][y] * half[y * wide + v];
          patch[u * wide + v] = sum / left;
        }
      found.push(patch);
    }
  return found;
}

// The places in a patch whose frequencies add up to `start` or more, but less than `end`.
function band(picture, start, end) {
  const { tall, wide } = grid(picture);
  const sum = (i) => (Math.floor(i / wide) * PATCH) / tall + ((i % wide) * PATCH) / wide;
  return Array.from({ length: tall * wide }, (_, i) => i).filter((i) => sum(i) >= start && sum(i) < end);
}

function levelWithoutColor(picture, deviation) {
  const levels = [], high = band(picture, FINE, END);
  for (const plane of picture.planes) {
    const share = clippedShares(plane, picture), valid = [], unclipped = [];
    patches(plane, picture, share, deviation).forEach((patch, i) => {
      if (share[i] >= MIN_GRAPHICS || !high.some((at) => Math.abs(patch[at]) > 1e-5)) return;
      valid.push(patch);
      if (share[i] < MAX_CLIPPED) unclipped.push(patch);
    });
    const chosen = unclipped.length > 0.1 * valid.length ? unclipped : isClippedInAreas(plane, picture) ? [] : valid;
    if (chosen.length) levels.push(lessTexture(chosen, picture));
  }
  return levels.reduce((sum, value) => sum + value, 0) / Math.max(1, levels.length);
}

// Whether the clipped values of a plane lie together: neighbors in patches that are clipped in part correlate.
function isClippedInAreas(plane, picture) {
  const { tall, wide, step, rows, columns } = grid(picture), together = [];
  const clipped = (at) => plane[at] === 0 || plane[at] === 1;
  for (let patch = 0; patch < rows * columns; patch++) {
    const corner = Math.floor(patch / columns) * step * picture.width + (patch % columns) * step;
    let all = 0, below = 0, beside = 0;
    for (let row = 0; row < tall; row++)
      for (let column = 0; column < wide; column++) {
        const at = corner + row * picture.width + column;
        if (!clipped(at)) continue;
        all++;
        below += row + 1 < tall && clipped(at + picture.width);
        beside += column + 1 < wide && clipped(at + 1);
      }
    const share = all / (tall * wide), pairs = (below / ((tall - 1) * wide) + beside / (tall * (wide - 1))) / 2;
    if (share > MAX_CLIPPED && share < MIN_GRAPHICS) together.push((pairs - share ** 2) / (share - share ** 2));
  }
  return together.length > 0 && quantile(together, 0.5) > MAX_TOGETHER;
}

function lessTexture(chosen, picture) {
  const level = levelOf(chosen, picture), finest = levelOf(chosen, picture, FINEST);
  const falls = finest <= (1 - Math.max(MIN_FALL, CHANCE / Math.sqrt(chosen.length))) * level;
  if (!falls || (level > MAX_TEXTURE * largest(picture) && rise(chosen, picture) < MIN_RISE)) return level;
  return Math.sqrt(Math.max(0, finest ** 2 - FALL * level ** 2) / (1 - FALL));
}

// The energy of the coarsest coefficients of the quietest patches, relative to that of the least fine ones.
function rise(chosen, picture) {
  const quiet = quietest(chosen, band(picture, 0, FINE).slice(1), QUIET);
  const energy = (places) =>
    quiet.reduce((sum, patch) => sum + places.reduce((own, at) => own + patch[at] ** 2, 0), 0) / places.length;
  return energy(band(picture, 0, 4).slice(1)) / Math.max(energy(band(picture, FINE, 11)), 1e-12);
}

function levelOf(chosen, picture, start = FINE, end = END) {
  const coarse = band(picture, 0, start).slice(1), fine = band(picture, start, end);
  const [quiet, many] = [QUIET, MANY].map((share) => {
    const few = quietest(chosen, coarse, share), values = new Float32Array(few.length * fine.length);
    few.forEach((patch, i) => fine.forEach((at, j) => (values[i * fine.length + j] = Math.abs(patch[at]))));
    return TO_SIGMA * quantile(values, 0.5);
  });
  return many < AGREE * quiet ? many : quiet;
}

// The patches with the least energy in `coarse` places: this share of them, and not too few.
function quietest(chosen, coarse, share) {
  const texture = Float32Array.from(chosen, (patch) => coarse.reduce((sum, at) => sum + patch[at] ** 2, 0));
  const most = texture.slice().sort()[Math.min(chosen.length, Math.max(MIN_PATCHES, Math.trunc(share * chosen.length))) - 1];
  return chosen.filter((_, i) => texture[i] <= most);
}

// Principal directions of the colors with a deviation above one level, the least first.
function colorDirections({ planes, height, width }) {
  const every = Math.max(1, Math.trunc(Math.sqrt((height * width) / MAX_COLORS))), colors = [];
  for (let y = 0; y < height; y += every)
    for (let x = 0; x < width; x += every) colors.push(planes.map((plane) => plane[y * width + x]));
  const { values, vectors } = eigen(covariance(colors, 3), 3);
  return [0, 1, 2].filter((i) => values[i] > 1 / 255 ** 2).sort((one, other) => values[one] - values[other])
    .map((i) => vectors.map((row) => row[i]));
}

function covariance(samples, size) {
  const mean = new Float64Array(size), matrix = Array.from({ length: size }, () => new Float64Array(size));
  for (const sample of samples) for (let i = 0; i < size; i++) mean[i] += sample[i] / samples.length;
  for (const sample of samples)
    for (let i = 0; i < size; i++)
      for (let j = 0; j < size; j++) matrix[i][j] += ((sample[i] - mean[i]) * (sample[j] - mean[j])) / samples.length;
  return matrix;
}

// Eigenvalues of a symmetric matrix by Jacobi's rotations, and its eigenvectors as columns.
function eigen(matrix, size) {
  const vectors = matrix.map((_, i) => Float64Array.from(matrix, (_, j) => +(i === j)));
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
