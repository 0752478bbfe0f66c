/** A compiled pose network in a page, a worker or Node. */

/** Bytes in memory: an ArrayBuffer, or a view of one (a Uint8Array, a Buffer of Node). */
export type Bytes = ArrayBuffer | ArrayBufferView;

/** x, y, width, height in pixels of the picture. */
export type Box = readonly [x: number, y: number, width: number, height: number];

/** x, y in pixels of the picture; [0, 0] is the middle of its first pixel. */
export type Point = [x: number, y: number];

/** Pixels in memory: 4 * width * height bytes R, G, B, A, rows from the top. The fourth byte is not read: lay what is
 * transparent over white first. `ImageData` is one. */
export interface Pixels {
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
}

/** What a model takes. What is not `Pixels` is drawn on a canvas, over white, and read back: in pages and workers only. */
export type Picture = Pixels | VideoFrame | ImageBitmap | OffscreenCanvas | HTMLCanvasElement | HTMLVideoElement | HTMLImageElement;

export interface PictureOptions {
  /** Where the person is; the whole picture unless given. What sticks out of the picture is cut off. */
  readonly box?: Box | null;
  /** The picture's focal length in pixels, for networks that are told where the box is; its diagonal unless given. */
  readonly focal?: number | null;
}

export interface Options {
  /** model.wasm, beside model.js unless given. */
  readonly wasm?: string | URL | Response | Bytes | WebAssembly.Module;
  /** weights.bin, beside model.js unless given. null: they are in model.wasm (`--embed-weights`). */
  readonly weights?: string | URL | Response | Bytes | null;
  /** manifest.json, beside model.js unless given. What is loaded is compared with the SHA-256 that it lists. */
  readonly manifest?: string | URL | Response | Bytes;
}

/** An input or output of the network; `shape` has the batch axis, which is 1. */
export interface Port {
  readonly name: string;
  readonly shape: readonly number[];
}

/** Where the network's input lies in a picture: pixel (i, j) of it is (x + i * scale, y + j * scale) of the picture. */
export interface Frame {
  readonly width: number;
  readonly height: number;
  readonly box: Box | null;
  readonly focal: number | null;
  readonly x: number;
  readonly y: number;
  readonly scale: number;
}

/** What `bhpe-compile run` writes of a person. null: the network says nothing of it. */
export interface Person {
  /** The part of the box inside the picture. Pixels. */
  box: Box;
  /** Pixels, rounded to hundredths. */
  joints: Record<string, Point> | null;
  /** Axis times angle in radians, relative to the joint above. */
  rotations: Record<string, [number, number, number]> | null;
  /** A point X of the body (metres) is seen at principal + focal (X + translation)_xy / (X + translation)_z; focal and
   * principal in pixels. `values`: of networks that say no focal length. */
  camera: { translation: number[]; focal: number; principal: Point } | { values: number[] } | null;
  /** Of hands and face: pixels. */
  boxes: Record<string, Box>;
  /** Of shape and expression: standard deviations of the body model. */
  coefficients: Record<string, number[]>;
  /** Entries of a code book, of networks that give any. */
  codes?: number[];
}

export interface Pose {
  network: string;
  /** One person: the one in the box. */
  people: [Person];
  /** What the numbers of a person are, in words. */
  units: Record<string, string | Record<string, string>>;
}

/** The network's description, as in manifest.json. */
export interface Network {
  /** "" for a network that nobody described. */
  readonly network: string;
  readonly preset?: string;
  readonly inputs: readonly { readonly name: string; readonly shape: readonly number[]; readonly kind?: "picture" | "box" | "tensor" }[];
  readonly outputs: readonly { readonly name: string; readonly kind?: string; readonly unit?: string; readonly names?: readonly string[] }[];
  /** Pairs of keypoints that a line is drawn between, and those that are drawn small. */
  readonly skeleton?: { readonly bones?: readonly (readonly [string, string])[]; readonly small?: readonly string[] };
}

export type Values = Float32Array | Float64Array | Int8Array | Int16Array | Int32Array | BigInt64Array | Uint8Array | Uint16Array | Uint32Array;

/** The text says what is wrong. */
export class ModelError extends Error {}

/** What is missing here to run a model, as a sentence; null where nothing is. */
export function unsupported(): string | null;

/** Load, check and start a model; any number may be there at once, each with its own memory.
 *
 * @throws ModelError: a file is missing, damaged or of another model; no WebAssembly SIMD; no memory. */
export function createModel(options?: Options): Promise<Model>;

export class Model {
  private constructor();
  readonly network: Network;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  /** Bytes that the model holds; they grow with the largest picture. */
  readonly memoryBytes: number;

  /** One picture of one person: `setPicture`, `execute`, and what the outputs say.
   *
   * @throws ModelError: the box lies outside the picture, the picture is too small, the focal length is none, the network
   * takes no picture. */
  run(picture: Picture, options?: PictureOptions): Pose;

  /** Fill the inputs from a picture. */
  setPicture(picture: Picture, options?: PictureOptions): Frame;

  /** Compute all outputs from all inputs. */
  execute(): void;

  /** Where the last run found the joints, by name, in pixels of the last picture, not rounded; null without keypoints. */
  joints(): Record<string, Point> | null;

  /** The values of an input (the first unless named), row-major, to be written: valid until the next call of any kind. */
  input(name?: string): Values;

  /** A copy of the values of an output, row-major. */
  output(name: string): Values;

  /** Release everything; `using` does it, too. */
  close(): void;
  [Symbol.dispose](): void;
}
