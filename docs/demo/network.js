// The network in ONNX Runtime Web, and its class activation maps.

import * as ort from "./runtime/ort.wasm.bundle.min.mjs";

const wasm = "./runtime/ort-wasm-simd-threaded.wasm";
ort.env.wasm.wasmPaths = { wasm: new URL(wasm, import.meta.url).href };
// Threads need headers that a simple server does not send.
ort.env.wasm.numThreads = 1;

/** Load `model.onnx` and `model.json`, which tools/demo.py wrote. */
export async function load() {
  const file = (name) => new URL(`./${name}`, import.meta.url).href;
  const response = await fetch(file("model.json"));
  const session = await ort.InferenceSession.create(file("model.onnx"), {
    executionProviders: ["wasm"],
  });
  return { session, ...(await response.json()) };
}

/**
 * Run the network on one picture.
 *
 * @param {Uint8Array} pixels RGB, 0 to 255, of the network's size.
 * @returns a dict with `probabilities` and the feature maps of the groups,
 *   each {data, shape: [height, width, channels]}.
 */
export async function run(network, pixels) {
  const size = network.image_size;
  const input = new ort.Tensor("uint8", pixels, [1, size, size, 3]);
  const outputs = await network.session.run({ images: input });
  const maps = {};
  for (const name of network.maps)
    maps[name] = {
      data: outputs[name].data,
      shape: outputs[name].dims.slice(1),
    };
  return { probabilities: outputs.probabilities.data, maps };
}

/**
 * Class activation map: the contribution of each position of the last feature
 * map to the logit of a class. The logit is their mean plus the bias.
 *
 * Zhou et al. 2016, https://arxiv.org/abs/1512.04150, equation 2.
 */
export function activationMap({ data, shape }, kernel, index) {
  const channels = shape[2];
  return Float32Array.from({ length: shape[0] * shape[1] }, (_, position) => {
    let sum = 0;
    for (let c = 0; c < channels; c++)
      sum += data[position * channels + c] * kernel[c][index];
    return sum;
  });
}

/** One channel of a feature map, row by row. */
export function channelOf({ data, shape }, channel) {
  return Float32Array.from(
    { length: shape[0] * shape[1] },
    (_, position) => data[position * shape[2] + channel],
  );
}

/** The channel with the highest standard deviation. */
export function strongestChannel(map) {
  let best = 0;
  let highest = -1;
  for (let channel = 0; channel < map.shape[2]; channel++) {
    const values = channelOf(map, channel);
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const spread = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
    if (spread > highest) [best, highest] = [channel, spread];
  }
  return best;
}
