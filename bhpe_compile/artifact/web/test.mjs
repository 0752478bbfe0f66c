// What `npm test` runs: the package in Node, with a picture made here.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, test } from "node:test";
import { createModel, ModelError } from "./model.js";

const model = await createModel();
after(() => model.close());

function picture(width, height, seed = 1) {
  const data = new Uint8ClampedArray(4 * width * height);
  for (let i = 0, state = seed; i < data.length; i++) data[i] = (state = (state * 1103515245 + 12345) & 0x7fffffff) >> 16;
  return { data, width, height };
}

const fill = (one) => {
  for (const { name } of one.inputs) one.input(name).fill(0.5);
  one.execute();
};
const outputs = (one) => one.outputs.map(({ name }) => one.output(name));
const takesPictures = model.network.inputs.some(({ kind }) => kind === "picture");

test("outputs have the shapes they are said to have", () => {
  fill(model);
  for (const { name, shape } of model.outputs) assert.equal(model.output(name).length, shape.reduce((a, b) => a * b, 1));
});

test("a picture becomes a person", { skip: !takesPictures && "the network takes no picture" }, () => {
  const { people, units } = model.run(picture(97, 120), { box: [3, 4, 60, 100] });
  assert.deepEqual(people[0].box, [3, 4, 60, 100]);
  assert.equal(typeof units.joints, "string");
});

test("two models at once are independent, and the same", async () => {
  const other = await createModel({ weights: await readFile(new URL("weights.bin", import.meta.url)) });
  if (takesPictures) other.run(picture(50, 60, 2));
  fill(model);
  fill(other);
  assert.deepEqual(outputs(other), outputs(model));
  other[Symbol.dispose]();
  assert.throws(() => other.execute(), { name: "ModelError", message: "the model is closed" });
  model.execute();
});

test("damaged weights are refused", async () => {
  const weights = await readFile(new URL("weights.bin", import.meta.url));
  weights[weights.length - 1] ^= 1;
  await assert.rejects(createModel({ weights }), ModelError);
});

test("a module or a manifest that is none is refused", async () => {
  for (const file of ["wasm", "manifest"]) await assert.rejects(createModel({ [file]: new Uint8Array(9) }), ModelError);
  await assert.rejects(createModel({ wasm: "nowhere.wasm" }), { name: "ModelError", message: /^model\.wasm: cannot be loaded from / });
});

test("a box outside the picture is refused", { skip: !takesPictures && "the network takes no picture" }, () => {
  const says = { name: "ModelError", message: "the box lies outside the frame" };
  assert.throws(() => model.run(picture(20, 20), { box: [30, 0, 5, 5] }), says);
});
