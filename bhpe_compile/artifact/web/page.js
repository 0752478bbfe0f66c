// page.js - the page: pictures, from files or the camera, go to the worker; it draws them with their skeletons.
import { unsupported } from "./model.js";

const LARGEST = 2048; // pixels along the longer side; larger pictures are scaled down
const at = (id) => document.getElementById(id);
const [status, stage, canvas, file, camera, save, video] = ["status", "stage", "canvas", "file", "camera", "save", "video"].map(at);

function say(text, problem = false) {
  status.textContent = text;
  status.classList.toggle("problem", problem);
}

const fail = (error) => say(error.message ?? String(error), true);
addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  fail(event.reason);
});

/** The worker: questions are answered in order. */
class Finder {
  proportions = []; // rows and columns of the network's input
  #worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  #waiting = [];

  constructor() {
    this.#worker.onmessage = ({ data }) => {
      const { resolve, reject } = this.#waiting.shift();
      data.error ? reject(new Error(data.error)) : resolve(data);
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      const error = new Error(event.message || "the worker that computes could not be started");
      for (const { reject } of this.#waiting.splice(0)) reject(error);
    };
  }

  ask(message, transfer) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#worker.postMessage(message, transfer);
    });
  }
}

const finder = await start();

async function start() {
  try {
    const lack = unsupported() ?? (canvas.transferControlToOffscreen ? null : "Drawing beside the page is missing here: a newer browser is needed");
    if (lack) throw new Error(lack);
    const made = new Finder(), offscreen = canvas.transferControlToOffscreen();
    const { network } = await made.ask({ canvas: offscreen }, [offscreen]);
    if (!network.inputs.some(({ kind }) => kind === "picture")) throw new Error("This network takes no picture: use model.js");
    at("network").textContent = [network.network, network.preset].filter(Boolean).join(" ");
    made.proportions = network.inputs.find(({ kind }) => kind === "picture").shape.slice(2);
    file.disabled = camera.disabled = false;
    say("Ready.");
    return made;
  } catch (error) {
    fail(error);
    return null;
  }
}

// ---- one picture ----

/** The pose in a picture file; the picture and its skeleton are shown. */
async function showPicture(blob) {
  stopCamera();
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${blob.name ?? "That"} is not a picture that this browser can read.`);
  }
  const { width, height } = bitmap, factor = Math.min(1, LARGEST / Math.max(width, height));
  const size = { width: Math.round(width * factor), height: Math.round(height * factor) };
  const found = await finder.ask({ picture: bitmap, ...size, described: true }, [bitmap]);
  show(found, `${blob.name ?? "Picture"}: the skeleton of one person`);
  at("fps").textContent = "–";
  at("text").textContent = JSON.stringify(found.pose, null, 1);
  save.disabled = false;
  say(factor < 1 ? `Done; scaled down to ${size.width} x ${size.height} pixels.` : "Done.");
  return found;
}

function show({ ms }, label) {
  stage.classList.add("filled");
  if (canvas.ariaLabel !== label) canvas.ariaLabel = label;
  at("network-ms").textContent = ms.run.toFixed(1);
  at("frame-ms").textContent = ms.whole.toFixed(1);
}

file.onchange = () => {
  if (file.files[0]) showPicture(file.files[0]).catch(fail);
  file.value = ""; // the same file again is a change, too
};

for (const kind of ["dragenter", "dragover"])
  addEventListener(kind, (event) => {
    event.preventDefault();
    stage.classList.add("over");
  });
addEventListener("dragleave", (event) => event.relatedTarget ?? stage.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("over");
  const dropped = event.dataTransfer?.files[0];
  if (!finder) return;
  if (dropped) showPicture(dropped).catch(fail);
  else say("Only files can be dropped here.", true);
});

save.onclick = () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([at("text").textContent], { type: "application/json" }));
  link.download = "pose.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

// ---- the camera ----

const REFUSED = {
  NotAllowedError: "The camera was refused. Allow it in the browser's settings of this page, then start again.",
  NotFoundError: "There is no camera.",
  NotReadableError: "The camera is used by another program.",
};
const AHEAD = 2; // frames in work: one that the worker computes, one that waits for it; others are left out
let running = null; // { frames, begun, times, stream, inWork } while the camera runs

async function startCamera() {
  if (!navigator.mediaDevices?.getUserMedia) throw new Error("Cameras work on https and localhost pages only.");
  say("Waiting for the camera …");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 60 } }, audio: false });
  } catch (error) {
    throw new Error(REFUSED[error.name] ?? `The camera could not be started (${error.message || error.name}).`);
  }
  video.srcObject = stream;
  await video.play();
  running = { frames: 0, begun: performance.now(), times: [], stream, inWork: 0 };
  stream.getVideoTracks()[0].onended = () => stopCamera("The camera has gone.");
  camera.textContent = "Stop the camera";
  save.disabled = true;
  at("text").textContent = "The pose of a still picture stands here.";
  say("The camera runs. Stand inside the frame.");
  next(running);
}

/** Hand every frame that comes to the worker, unless it is behind. */
function next(run) {
  const step = () => {
    if (run !== running) return;
    next(run);
    if (run.inWork >= AHEAD) return;
    run.inWork++;
    handle(run)
      .catch((error) => {
        stopCamera();
        fail(error);
      })
      .finally(() => run.inWork--);
  };
  video.requestVideoFrameCallback ? video.requestVideoFrameCallback(step) : requestAnimationFrame(step);
}

async function handle(run) {
  const picture = await createImageBitmap(video), { width, height } = picture;
  const found = await finder.ask({ picture, width, height, box: middle(width, height) }, [picture]);
  if (run !== running) return;
  run.frames++;
  const now = performance.now();
  run.times.push(now);
  while (run.times[0] < now - 1000) run.times.shift();
  show(found, "The camera's picture with the skeleton of one person");
  at("fps").textContent = String(run.times.length);
  // for programs that watch the page
  Object.assign(document.documentElement.dataset, { frames: run.frames, seconds: ((now - run.begun) / 1000).toFixed(3) });
}

/** The box of a camera's frame: its middle, with the proportions of the network's input. */
function middle(width, height) {
  const [rows, columns] = finder.proportions, scale = Math.min(width / columns, height / rows);
  const [w, h] = [columns * scale, rows * scale];
  return [(width - w) / 2, (height - h) / 2, w, h];
}

function stopCamera(text = "The camera is off.") {
  if (!running) return;
  for (const track of running.stream.getTracks()) track.stop();
  running = null;
  video.srcObject = null;
  camera.textContent = "Start the camera";
  say(text);
}

camera.onclick = () => (running ? stopCamera() : startCamera().catch(fail));
addEventListener("pagehide", () => stopCamera());
