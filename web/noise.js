// Gaussian noise from a seed: the same picture at every level of the slider, only stronger.
export function gaussianNoise(count, seed = 1) {
  let state = seed >>> 0;
  const uniform = () => { // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const noise = new Float32Array(count);
  for (let i = 0; i < count; i += 2) { // Box-Muller
    const radius = Math.sqrt(-2 * Math.log(1 - uniform())), angle = 2 * Math.PI * uniform();
    noise[i] = radius * Math.cos(angle);
    if (i + 1 < count) noise[i + 1] = radius * Math.sin(angle);
  }
  return noise;
}

// PSNR in dB of two RGBA pictures of 8 bits; alpha does not count.
export function psnr(one, other) {
  let sum = 0;
  for (let i = 0; i < one.length; i++) if (i % 4 < 3) sum += (one[i] - other[i]) ** 2;
  return 10 * Math.log10((255 ** 2 * one.length * 0.75) / sum);
}
