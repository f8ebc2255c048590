// A picture in overlapping tiles, as in denoiser/images/tiling.py: each is computed with a margin, which is dropped.
export const TILE = 256, MARGIN = 64;

// Those nearest to the middle come first: that is where people look while a slider moves.
export function cutTiles(height, width, size = TILE, margin = MARGIN) {
  const tiles = [];
  for (let top = 0; top < height; top += size)
    for (let left = 0; left < width; left += size) {
      const bottom = Math.min(top + size, height), right = Math.min(left + size, width);
      tiles.push({
        top, left, bottom, right,
        outerTop: Math.max(top - margin, 0), outerLeft: Math.max(left - margin, 0),
        outerBottom: Math.min(bottom + margin, height), outerRight: Math.min(right + margin, width),
      });
    }
  const distance = (tile) => Math.hypot(tile.top + tile.bottom - height, tile.left + tile.right - width);
  return tiles.sort((one, other) => distance(one) - distance(other));
}
