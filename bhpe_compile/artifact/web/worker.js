// worker.js - pictures in, poses out, beside the page's own thread; the picture and its skeleton go onto the page's canvas.
import { createModel } from "./model.js";
import { drawBox, drawSkeleton, skeletonOf } from "./drawing.js";

let model, canvas, skeleton;

async function start(message) {
  model = await createModel();
  skeleton = skeletonOf(model.network);
  canvas = message.canvas.getContext("2d", { willReadFrequently: true, alpha: false });
  return { network: model.network };
}

/** `box`: where the person is; `described`: the pose in words is wanted, too. */
function find({ picture, width, height, box = null, described = false }) {
  const begun = performance.now();
  if (canvas.canvas.width !== width || canvas.canvas.height !== height) Object.assign(canvas.canvas, { width, height });
  canvas.fillStyle = "white"; // transparency is laid over it
  canvas.fillRect(0, 0, width, height);
  canvas.drawImage(picture, 0, 0, width, height);
  picture.close();
  const pixels = canvas.getImageData(0, 0, width, height), read = performance.now();
  const frame = model.setPicture(pixels, { box }), filled = performance.now();
  model.execute();
  const joints = model.joints(), computed = performance.now();
  const unit = Math.max(1, (frame.scale * inputRows()) / 320); // lines grow with the person
  if (box) drawBox(canvas, box, unit);
  if (joints) drawSkeleton(canvas, skeleton, joints, unit);
  const pose = described ? model.run(pixels, { box }) : null;
  return { pose, ms: { read: read - begun, frame: filled - read, run: computed - filled, whole: performance.now() - begun } };
}

const inputRows = () => model.network.inputs.find(({ kind }) => kind === "picture").shape[2];

self.onmessage = async ({ data }) => {
  try {
    self.postMessage(data.canvas ? await start(data) : find(data));
    if (data.canvas) model.execute(); // browsers optimize code that has run
  } catch (error) {
    self.postMessage({ error: error.message });
  }
};
