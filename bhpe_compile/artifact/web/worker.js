// worker.js - pictures in, poses out, beside the page's own thread; the picture and its skeleton go onto the page's canvas.
import { createModel } from "./model.js";
import { drawSkeleton, skeletonOf } from "./drawing.js";

let model, canvas, skeleton;

async function start(message) {
  const begun = performance.now();
  model = await createModel();
  skeleton = skeletonOf(model.network);
  canvas = message.canvas.getContext("2d", { willReadFrequently: true, alpha: false });
  warmUp();
  return { network: model.network, ms: performance.now() - begun };
}

/** The first run is of code that the browser has not optimized yet. */
function warmUp() {
  for (let i = 0; i < 3; i++) model.execute();
}

function find({ picture, width, height, described }) {
  const begun = performance.now();
  if (canvas.canvas.width !== width || canvas.canvas.height !== height) Object.assign(canvas.canvas, { width, height });
  canvas.fillStyle = "white"; // transparency is laid over it
  canvas.fillRect(0, 0, width, height);
  canvas.drawImage(picture, 0, 0, width, height);
  picture.close();
  const pixels = canvas.getImageData(0, 0, width, height), read = performance.now();
  const frame = model.setPicture(pixels), filled = performance.now();
  model.execute();
  const joints = model.joints(), computed = performance.now();
  if (joints) drawSkeleton(canvas, skeleton, joints, Math.max(1, (frame.scale * inputRows()) / 320));
  const pose = described ? model.run(pixels) : null;
  return { pose, ms: { read: read - begun, frame: filled - read, run: computed - filled, whole: performance.now() - begun } };
}

const inputRows = () => model.network.inputs.find(({ kind }) => kind === "picture").shape[2];

self.onmessage = async ({ data }) => {
  try {
    self.postMessage(data.canvas ? await start(data) : find(data));
  } catch (error) {
    self.postMessage({ error: error.message });
  }
};
