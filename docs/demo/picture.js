// From a picture file to the pixels of the network, and from maps to canvases.

/** Decode a picture file: its RGBA pixels, without color management. */
export async function decode(blob) {
  const bitmap = await createImageBitmap(blob, {
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

// TensorFlow's kernel, ScaleAndTranslate, computes with 32-bit numbers. Near a
// half, a different order or precision would round to a different gray level.
const float = Math.fround;

/**
 * The central square of a picture, resized with antialiasing, as
 * keras_dropblock/data/images.py does it with TensorFlow.
 *
 * @returns {Uint8Array} size * size * 3 values, row by row.
 */
export function fit({ data, width, height }, size) {
  const side = Math.min(width, height);
  const top = Math.floor((height - side) / 2);
  const left = Math.floor((width - side) / 2);
  const taps = triangles(side, size);
  const rows = new Float32Array(size * side * 3); // resized vertically
  const pixels = new Uint8Array(size * size * 3);
  for (let y = 0; y < size; y++)
    for (let x = 0; x < side; x++)
      for (let c = 0; c < 3; c++)
        rows[(y * side + x) * 3 + c] = weighted(
          taps[y],
          (i) => data[((top + i) * width + left + x) * 4 + c],
        );
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++)
      for (let c = 0; c < 3; c++)
        pixels[(y * size + x) * 3 + c] = roundEven(
          weighted(taps[x], (i) => rows[(y * side + i) * 3 + c]),
        );
  return pixels;
}

function weighted(taps, valueAt) {
  let sum = 0;
  for (const [i, weight] of taps) sum = float(sum + float(weight * valueAt(i)));
  return sum;
}

/** Round to the nearest integer, and halves to the even one, as TensorFlow. */
function roundEven(x) {
  const rounded = Math.round(x);
  return rounded - x === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

/** For each output position, the input positions with their weights. */
function triangles(from, to) {
  const scale = float(1 / float(to / from));
  const radius = Math.max(scale, 1);
  const inverse = float(1 / radius);
  return Array.from({ length: to }, (_, position) => {
    const center = float((position + 0.5) * scale);
    const low = float(float(center - radius) - 0.5);
    const high = float(float(center + radius) - 0.5);
    const first = Math.max(Math.ceil(low), 0);
    const last = Math.min(Math.floor(high), from - 1);
    const taps = [];
    let total = 0;
    for (let i = first; i <= last; i++) {
      const distance = Math.abs(float(float(i + 0.5 - center) * inverse));
      const weight = Math.max(float(1 - distance), 0);
      taps.push([i, weight]);
      total = float(total + weight);
    }
    const share = float(1 / total);
    return taps.map(([i, weight]) => [i, float(weight * share)]);
  });
}

/** Draw RGB pixels on a canvas of their size. */
export function drawPixels(canvas, pixels, size) {
  paint(canvas, size, size, (i) => [...pixels.subarray(3 * i, 3 * i + 3), 255]);
}

/**
 * Draw a map in colors from low (dark) to high (bright).
 *
 * @param {(i: number) => boolean} isDropped units that are drawn black.
 */
export function drawMap(canvas, values, height, width, isDropped) {
  const low = Math.min(...values);
  const range = Math.max(...values) - low || 1;
  paint(canvas, height, width, (i) =>
    isDropped(i) ? [0, 0, 0, 255] : color((values[i] - low) / range),
  );
}

/** Draw a map that is transparent where it is low, to lay over a picture. */
export function drawHeat(canvas, values, height, width) {
  const high = Math.max(...values, 1e-9);
  paint(canvas, height, width, (i) => {
    const share = Math.max(values[i] / high, 0);
    return [255, Math.round(220 * share), 0, Math.round(200 * share)];
  });
}

function paint(canvas, height, width, colorOf) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) image.data.set(colorOf(i), 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const STOPS = [
  [68, 1, 84],
  [59, 82, 139],
  [33, 145, 140],
  [94, 201, 98],
  [253, 231, 37],
];

/** A color of the scale viridis for a number of 0 to 1. */
function color(share) {
  const place = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
  const index = Math.min(Math.floor(place), STOPS.length - 2);
  const [a, b] = [STOPS[index], STOPS[index + 1]];
  const rest = place - index;
  return [...a.map((x, c) => Math.round(x + rest * (b[c] - x))), 255];
}
