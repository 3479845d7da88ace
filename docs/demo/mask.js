// DropBlock's mask in plain JavaScript: keras_dropblock/layers/masks.py.

/** Side of the block on an axis: `blockSize`, or the map's size if less. */
export function clampBlock(blockSize, size) {
  return Math.min(blockSize, size);
}

/**
 * Probability that a block starts at a valid position: gamma of equation 1 in
 * Ghiasi et al. 2018, https://arxiv.org/abs/1810.12890.
 */
export function seedRate(keepProb, blockSize, height, width) {
  let gamma = 1 - keepProb;
  for (const size of [height, width]) {
    const block = clampBlock(blockSize, size);
    gamma *= size / (block * (size - block + 1));
  }
  return gamma;
}

/** Share of the units that is dropped on average, with overlaps of blocks. */
export function expectedDropped(keepProb, blockSize, height, width) {
  const gamma = seedRate(keepProb, blockSize, height, width);
  const rows = blocksOver(blockSize, height);
  const columns = blocksOver(blockSize, width);
  let dropped = 0;
  for (const i of rows)
    for (const j of columns) dropped += 1 - (1 - gamma) ** (i * j);
  return dropped / (height * width);
}

/** For each position of an axis, the number of blocks that can cover it. */
function blocksOver(blockSize, size) {
  const last = size - clampBlock(blockSize, size);
  return Array.from({ length: size }, (_, position) => {
    const first = Math.max(0, position - blockSize + 1);
    return Math.min(position, last) - first + 1;
  });
}

/** Random numbers in [0, 1) that depend on the seed alone (mulberry32). */
export function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Where blocks start on one channel: 1 or 0 at each valid position, row by
 * row. There are (height - block + 1) * (width - block + 1) positions.
 */
export function drawSeeds(keepProb, blockSize, height, width, random) {
  const gamma = seedRate(keepProb, blockSize, height, width);
  const rows = height - clampBlock(blockSize, height) + 1;
  const columns = width - clampBlock(blockSize, width) + 1;
  return Uint8Array.from({ length: rows * columns }, () => random() < gamma);
}

/** Turn seeds into blocks: 1 where a unit is dropped, row by row. */
export function growBlocks(seeds, blockSize, height, width) {
  const blockHeight = clampBlock(blockSize, height);
  const blockWidth = clampBlock(blockSize, width);
  const columns = width - blockWidth + 1;
  const dropped = new Uint8Array(height * width);
  seeds.forEach((seed, position) => {
    if (!seed) return;
    const top = Math.floor(position / columns);
    const left = position % columns;
    for (let row = top; row < top + blockHeight; row++)
      dropped.fill(1, row * width + left, row * width + left + blockWidth);
  });
  return dropped;
}

/** Masks of all channels, drawn independently: an array of `growBlocks`. */
export function drawMasks(keepProb, blockSize, [height, width, channels], seed) {
  const random = randomNumbers(seed);
  return Array.from({ length: channels }, () =>
    growBlocks(
      drawSeeds(keepProb, blockSize, height, width, random),
      blockSize,
      height,
      width,
    ),
  );
}

/** Share of the units of all channels that is dropped. */
export function droppedShare(masks) {
  let dropped = 0;
  for (const mask of masks) for (const unit of mask) dropped += unit;
  return dropped / (masks.length * masks[0].length);
}
