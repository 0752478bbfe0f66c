// model.js - a compiled pose network in a page, a worker or Node. It asks nothing of the system.
//
//     import { createModel } from "./model.js";
//     using model = await createModel();               // or model.close() at the end
//     const { people } = model.run(imageData, { box: [x, y, width, height] });
//     people[0].joints.left_wrist                      // x, y in pixels of that picture
//
// model.d.ts has the types; the files lie beside this one unless `createModel` is told otherwise.
import { describePose, ModelError } from "./people.js";

export { ModelError };

const ABI = 6; // BHPE_ABI_VERSION, and on it the layouts of bhpe.h with 32-bit pointers:
const TENSOR = { bytes: 56, name: 0, data: 4, shape: 8, nbytes: 16, ndim: 32, type: 36, bits: 40 };
const BOX = 0, FRAME = 32, ALIGNMENT = 64;
const TYPES = {
  "0.8": Int8Array, "0.16": Int16Array, "0.32": Int32Array, "0.64": BigInt64Array,
  "1.8": Uint8Array, "1.16": Uint16Array, "1.32": Uint32Array,
  "2.16": globalThis.Float16Array ?? Uint16Array, "2.32": Float32Array, "2.64": Float64Array, "6.8": Uint8Array,
};
// (module (func (param v128) (drop (local.get 0)))): valid where there are 128-bit vectors
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 1, 123, 0, 3, 2, 1, 0, 10, 7, 1, 5, 0, 32, 0, 26, 11];

/** What this browser lacks, as a sentence, or null. */
export function unsupported() {
  if (typeof WebAssembly !== "object") return "WebAssembly is missing or switched off here";
  if (!WebAssembly.validate(new Uint8Array(SIMD))) return "WebAssembly has no SIMD here: a newer browser is needed";
  return null;
}

/** Load, check and start a model. */
export async function createModel({ wasm, weights, manifest } = {}) {
  const lack = unsupported();
  if (lack) throw new ModelError(lack);
  const files = { "model.wasm": wasm, "weights.bin": weights, "manifest.json": manifest };
  const open = (name) => answer(name, files[name] ?? new URL(name, import.meta.url));
  const [text, program, content] = await Promise.all([
    open("manifest.json").then(bytesOf),
    open("model.wasm").then(compiled),
    weights === null ? null : open("weights.bin").then(bytesOf),
  ]);
  const described = parsed(text);
  await Promise.all([check(described, "model.wasm", program.bytes), check(described, "weights.bin", content)]);
  const module = await program.module.catch((error) => {
    throw new ModelError(`model.wasm: ${error.message}`);
  });
  const instance = await WebAssembly.instantiate(module, {});
  return new Model(instance.exports, content, described);
}

/** A source as bytes, a Response or a WebAssembly.Module. */
async function answer(name, source) {
  if (source instanceof WebAssembly.Module || source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return source;
  const found = source instanceof Response ? source : await loaded(name, new URL(source, globalThis.location?.href ?? import.meta.url));
  if (found instanceof Response && !found.ok) throw new ModelError(`${name}: the server answered ${found.status} ${found.statusText}`.trim());
  return found;
}

async function loaded(name, place) {
  try {
    if (place.protocol !== "file:" || !globalThis.process?.versions?.node) return await fetch(place);
    const { readFile } = await import("node:fs/promises"); // Node's fetch reads no files
    return await readFile(place);
  } catch (error) {
    throw new ModelError(`${name}: cannot be loaded from ${place.href} (${error.message})`);
  }
}

async function bytesOf(found) {
  if (found instanceof Response) return new Uint8Array(await found.arrayBuffer());
  return ArrayBuffer.isView(found) ? new Uint8Array(found.buffer, found.byteOffset, found.byteLength) : new Uint8Array(found);
}

/** A module that is compiled while it arrives, where the server says what it is, and its bytes, to be checked. */
async function compiled(found) {
  if (found instanceof WebAssembly.Module) return { module: Promise.resolve(found), bytes: null };
  const streams = found instanceof Response && found.headers.get("content-type")?.split(";")[0].trim() === "application/wasm";
  const arriving = streams ? WebAssembly.compileStreaming(found.clone()) : null;
  const quiet = (module) => module?.catch(() => {}); // what fails is told after the check, where it is waited for
  quiet(arriving);
  const bytes = await bytesOf(found);
  const module = arriving ?? WebAssembly.compile(bytes);
  quiet(module);
  return { module, bytes };
}

function parsed(text) {
  try {
    const manifest = JSON.parse(new TextDecoder().decode(text));
    if (manifest.format === "bhpe-artifact" && manifest.files && manifest.network) return manifest;
  } catch {
    // said below
  }
  throw new ModelError("manifest.json: is not the manifest of a compiled model");
}

/** Compare a file with its SHA-256 in the manifest; pages that came by plain http have no means to, and compare sizes. */
async function check({ files }, name, bytes) {
  if (bytes === null) return;
  const digest = globalThis.crypto?.subtle ? await crypto.subtle.digest("SHA-256", bytes) : null;
  const text = digest && Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (bytes.length !== files[name]?.size || (text && text !== files[name].sha256))
    throw new ModelError(`${name}: is not the file that was compiled (its size or SHA-256 differs)`);
}

export class Model {
  #c; #model = 0; #weights = 0; #places = 0; #pixels = 0; #room = 0; #canvas = null; #frame = null; #names = [];

  constructor(exports, weights, manifest) {
    this.#c = exports;
    exports._initialize();
    if (exports.bhpe_abi_version() !== ABI) throw new ModelError("model.wasm is of another version than model.js");
    const out = this.#allocate(ALIGNMENT);
    if (weights) {
      this.#weights = this.#allocate(weights.length);
      this.#bytes(this.#weights, weights.length).set(weights);
      this.#check(exports.bhpe_create(this.#weights, BigInt(weights.length), out));
    } else this.#check(exports.bhpe_create_embedded(out));
    this.#model = new DataView(exports.memory.buffer).getUint32(out, true);
    this.#places = out; // four doubles of a box, then a bhpe_frame
    this.network = { network: "", inputs: [], outputs: [], ...manifest.network };
    this.inputs = this.#ports("input");
    this.outputs = this.#ports("output");
    const joints = { length: exports.bhpe_joint_count(this.#model) };
    this.#names = Array.from(joints, (_, index) => this.#text(exports.bhpe_joint_name(this.#model, index) >>> 0));
  }

  /** One picture of one person: what `bhpe-compile run` says of it. */
  run(picture, { box = null, focal = null } = {}) {
    const place = this.setPicture(picture, { box, focal });
    this.execute();
    return describePose(this.network, place, Object.fromEntries(this.outputs.map(({ name }) => [name, this.output(name)])), this.joints());
  }

  /** Fill the inputs from a picture, the person's box in it (by default the whole picture) and its focal length. */
  setPicture(picture, { box = null, focal = null } = {}) {
    this.#open();
    if (focal != null && !(focal > 0 && Number.isFinite(focal)))
      throw new ModelError(`focal length ${focal}: a finite number of pixels above 0`);
    const { data, width, height } = isPixels(picture) ? picture : this.#draw(picture);
    const bytes = width * height * 4;
    if (data.length < bytes) throw new ModelError(`a picture of ${width}x${height} has ${bytes} bytes, not ${data.length}`);
    if (bytes > this.#room) {
      this.#c.free(this.#pixels);
      this.#pixels = this.#room = 0;
      this.#pixels = this.#allocate(bytes);
      this.#room = bytes;
    }
    this.#bytes(this.#pixels, bytes).set(data.length === bytes ? data : data.subarray(0, bytes));
    const numbers = new Float64Array(this.#c.memory.buffer, this.#places, 7);
    if (box) {
      if (box.length !== 4) throw new ModelError("a box is four numbers: x, y, width, height");
      numbers.set(box);
    }
    const at = this.#places;
    this.#check(this.#c.bhpe_set_focal(this.#model, focal ?? 0));
    this.#check(this.#c.bhpe_set_frame_rgba(this.#model, this.#pixels, width, height, BigInt(4 * width), box ? at + BOX : 0, at + FRAME));
    this.#frame = { width, height, focal, box: box ? Array.from(box, Number) : null, x: numbers[4], y: numbers[5], scale: numbers[6] };
    return { ...this.#frame };
  }

  /** Compute all outputs from all inputs. */
  execute() {
    this.#open();
    this.#check(this.#c.bhpe_run(this.#model));
  }

  /** Where the last run found the joints, by name: [x, y] in pixels of the picture; null without keypoints. */
  joints() {
    this.#open();
    const count = this.#names.length;
    if (!count || !this.#frame) return null;
    const xy = this.#allocate(16 * count);
    const numbers = new Float64Array(this.#c.memory.buffer, this.#places, 7);
    numbers.set([this.#frame.x, this.#frame.y, this.#frame.scale], 4);
    this.#check(this.#c.bhpe_joints(this.#model, this.#places + FRAME, xy));
    const points = new Float64Array(this.#c.memory.buffer, xy, 2 * count).slice();
    this.#c.free(xy);
    return Object.fromEntries(this.#names.map((name, i) => [name, [points[2 * i], points[2 * i + 1]]]));
  }

  /** The values of an input, to be written: a view that is valid until the next call of any kind. */
  input(name = this.inputs[0].name) { return this.#view(this.inputs, name, "input"); }

  /** A copy of the values of an output. */
  output(name) { return this.#view(this.outputs, name, "output").slice(); }

  /** Bytes that the model holds: program, weights, activations and the largest picture so far. */
  get memoryBytes() { return this.#c.memory.buffer.byteLength; }

  /** Release everything; the model cannot be used after that. */
  close() {
    if (!this.#model) return;
    this.#c.bhpe_destroy(this.#model);
    for (const place of [this.#weights, this.#places, this.#pixels]) this.#c.free(place);
    this.#model = this.#weights = this.#places = this.#pixels = this.#room = 0;
    this.#canvas = null;
  }

  [Symbol.dispose ?? Symbol.for("Symbol.dispose")]() { this.close(); }

  /** A bitmap, video frame, video or canvas as pixels; transparency is laid over white. */
  #draw(picture) {
    const width = picture.displayWidth ?? picture.videoWidth ?? picture.naturalWidth ?? picture.width;
    const height = picture.displayHeight ?? picture.videoHeight ?? picture.naturalHeight ?? picture.height;
    if (!(width > 0 && height > 0)) throw new ModelError("a picture is ImageData, a VideoFrame or something that a canvas draws");
    this.#canvas ??= new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true, alpha: false });
    const canvas = this.#canvas.canvas;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    this.#canvas.fillStyle = "white";
    this.#canvas.fillRect(0, 0, width, height);
    this.#canvas.drawImage(picture, 0, 0, width, height);
    return this.#canvas.getImageData(0, 0, width, height);
  }

  #open() {
    if (!this.#model) throw new ModelError("the model is closed");
  }

  #check(status) {
    if (status) throw new ModelError(this.#text(this.#c.bhpe_last_error() >>> 0));
  }

  #allocate(bytes) {
    const place = this.#c.aligned_alloc(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT) >>> 0;
    if (!place) throw new ModelError("out of memory");
    return place;
  }

  // Views are made anew for every use: memory that grows leaves the old ones empty.
  #bytes(at, length) { return new Uint8Array(this.#c.memory.buffer, at, length); }

  #text(at) {
    const memory = new Uint8Array(this.#c.memory.buffer);
    return new TextDecoder().decode(memory.slice(at, memory.indexOf(0, at)));
  }

  #view(ports, name, what) {
    this.#open();
    const port = ports.find((one) => one.name === name);
    if (!port) throw new ModelError(`there is no ${what} ${name}, but ${ports.map((one) => one.name).join(", ")}`);
    const { kind, place, length } = port.memory;
    return new kind(this.#c.memory.buffer, place, length);
  }

  #ports(which) {
    const at = this.#allocate(TENSOR.bytes);
    const ports = Array.from({ length: this.#c[`bhpe_${which}_count`](this.#model) }, (_, index) => {
      this.#check(this.#c[`bhpe_get_${which}`](this.#model, index, at));
      const view = new DataView(this.#c.memory.buffer, at, TENSOR.bytes);
      const word = (offset) => view.getUint32(offset, true);
      const kind = TYPES[`${word(TENSOR.type)}.${word(TENSOR.bits)}`];
      const shape = Array.from(new BigInt64Array(this.#c.memory.buffer, word(TENSOR.shape), word(TENSOR.ndim)), Number);
      const memory = { kind, place: word(TENSOR.data), length: word(TENSOR.nbytes) / kind.BYTES_PER_ELEMENT };
      return Object.defineProperty({ name: this.#text(word(TENSOR.name)), shape }, "memory", { value: memory });
    });
    this.#c.free(at);
    return ports;
  }
}

const isPixels = (picture) => ArrayBuffer.isView(picture?.data) && picture.width > 0 && picture.height > 0;
