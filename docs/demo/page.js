// The page: what happens when a picture or a slider changes.

import * as mask from "./mask.js";
import * as networks from "./network.js";
import * as pictures from "./picture.js";

const TOP = 5;
const find = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

let network; // from networks.load
let result; // from networks.run
let seed = 1; // of the mask

async function start() {
  network = await networks.load();
  for (const name of network.samples) addSample(name);
  for (const name of network.maps) find("group").add(new Option(name, name));
  for (const id of ["group", "channel", "keep_prob", "block_size"])
    find(id).addEventListener("input", () => changed(id));
  find("again").addEventListener("click", () => {
    seed += 1;
    drawDropBlock();
  });
  find("file").addEventListener("change", (event) =>
    showFile(event.target.files[0]),
  );
  for (const kind of ["dragover", "drop"])
    document.addEventListener(kind, (event) => event.preventDefault());
  document.addEventListener("drop", (event) =>
    showFile(event.dataTransfer.files[0]),
  );
  await showSample(network.samples[0]);
}

function addSample(name) {
  const button = document.createElement("button");
  button.dataset.sample = name;
  button.title = name;
  const image = new Image(64, 64);
  image.src = sampleUrl(name);
  image.alt = name;
  button.append(image);
  button.addEventListener("click", () => showSample(name));
  find("samples").append(button);
}

const sampleUrl = (name) => `samples/${name}.png`;

async function showSample(name) {
  const response = await fetch(sampleUrl(name));
  await show(await response.blob(), name);
}

async function showFile(file) {
  if (file) await show(file, file.name);
}

/** Classify a picture and draw everything about it. */
async function show(blob, name) {
  find("status").textContent = `Running on ${name} …`;
  try {
    const image = await pictures.decode(blob);
    const pixels = pictures.fit(image, network.image_size);
    const began = performance.now();
    result = await networks.run(network, pixels);
    const took = performance.now() - began;
    pictures.drawPixels(find("input"), pixels, network.image_size);
    pictures.drawPixels(find("under"), pixels, network.image_size);
    drawClasses();
    changed("group");
    find("status").textContent = `${name}: ${took.toFixed(0)} ms`;
    document.body.dataset.shown = name;
  } catch (error) {
    find("status").textContent = `${name} cannot be shown: ${error.message}`;
  }
}

/** List the top classes; a click on one shows its class activation map. */
function drawClasses() {
  const order = [...result.probabilities.keys()].sort(
    (a, b) => result.probabilities[b] - result.probabilities[a],
  );
  find("classes").replaceChildren(
    ...order.slice(0, TOP).map((index) => {
      const button = document.createElement("button");
      const share = result.probabilities[index];
      button.dataset.class = network.class_names[index];
      button.dataset.probability = share;
      const label = document.createElement("span");
      label.textContent = `${network.class_names[index]}  ${percent(share)}`;
      const bar = document.createElement("meter");
      bar.value = share;
      button.append(label, bar);
      button.addEventListener("click", () => drawActivation(index));
      return button;
    }),
  );
  drawActivation(order[0]);
}

function drawActivation(index) {
  const last = result.maps[network.last];
  const map = networks.activationMap(last, network.kernel, index);
  pictures.drawHeat(find("heat"), map, last.shape[0], last.shape[1]);
  find("heat_class").textContent = network.class_names[index];
  for (const button of find("classes").children)
    button.ariaPressed = button.dataset.class === network.class_names[index];
}

/** Update the controls that depend on another one, then draw. */
function changed(id) {
  if (!result) return;
  const map = result.maps[find("group").value];
  if (id === "group") {
    find("channel").max = map.shape[2] - 1;
    find("channel").value = networks.strongestChannel(map);
  }
  drawDropBlock();
}

function drawDropBlock() {
  const map = result.maps[find("group").value];
  const [height, width] = map.shape;
  const [channel, keepProb, blockSize] = [
    "channel",
    "keep_prob",
    "block_size",
  ].map((id) => Number(find(id).value));
  const masks = mask.drawMasks(keepProb, blockSize, map.shape, seed);
  const values = networks.channelOf(map, channel);
  pictures.drawMap(find("before"), values, height, width, () => false);
  pictures.drawMap(
    find("after"),
    values,
    height,
    width,
    (i) => masks[channel][i] === 1,
  );
  const numbers = {
    gamma: mask.seedRate(keepProb, blockSize, height, width),
    dropped: mask.droppedShare(masks),
    expected: mask.expectedDropped(keepProb, blockSize, height, width),
  };
  find("gamma").textContent = numbers.gamma.toFixed(5);
  for (const id of ["dropped", "expected"])
    find(id).textContent = percent(numbers[id]);
  find("asked").textContent = percent(1 - keepProb);
  for (const id of Object.keys(numbers)) find(id).dataset.value = numbers[id];
  for (const id of ["channel", "keep_prob", "block_size"])
    find(`${id}_value`).textContent = find(id).value;
}

start().catch((error) => {
  find("status").textContent = `The demo cannot start: ${error.message}`;
});
