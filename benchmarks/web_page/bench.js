// bench.js - the compiled model and ONNX Runtime's sessions in one page, in turns. What benchmarks/web.py calls.
const PEERS = ["float", "int8"];
const models = {}; // name -> { run, outputs }

const bytesOf = async (name) => (await fetch(name)).arrayBuffer();
const text = (array) => btoa(Array.from(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), (b) => String.fromCharCode(b)).join(""));

/** Milliseconds from bytes in memory to a model that can run, `times` over. */
window.started = async (times) => {
  const { createModel } = await import("./model.js");
  const files = { wasm: await bytesOf("model.wasm"), weights: await bytesOf("weights.bin"), manifest: await bytesOf("manifest.json") };
  const ms = [];
  for (let i = 0; i < times; i++) {
    const begun = performance.now();
    const model = await createModel(files);
    ms.push(performance.now() - begun);
    model.close();
  }
  return ms;
};

/** Load ours and those peers whose files are there; the outputs of each for the prepared input. */
window.prepared = async (peers) => {
  const { createModel } = await import("./model.js");
  const input = new Float32Array(await bytesOf("input.bin"));
  const ours = await createModel();
  ours.input().set(input);
  models.bhpe = { run: () => ours.execute() };
  const found = {};
  ours.execute();
  found.bhpe = Object.fromEntries(ours.outputs.map(({ name }) => [name, text(ours.output(name))]));
  if (!peers) return { found, memory: ours.memoryBytes };
  const ort = await import("./ort/ort.wasm.min.mjs");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL("./ort/", location.href).href;
  for (const name of PEERS) {
    const session = await ort.InferenceSession.create(await bytesOf(`${name}.bin`), { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
    const feeds = { [session.inputNames[0]]: new ort.Tensor("float32", input, ours.inputs[0].shape) };
    models[`ort_web_${name}`] = { run: () => session.run(feeds) };
    const outputs = await session.run(feeds);
    found[`ort_web_${name}`] = Object.fromEntries(Object.entries(outputs).map(([key, tensor]) => [key, text(tensor.data)]));
  }
  return { found, memory: ours.memoryBytes };
};

/** Run a model `count` times; milliseconds. */
window.turn = async (name, count) => {
  const begun = performance.now();
  for (let i = 0; i < count; i++) await models[name].run();
  return performance.now() - begun;
};
