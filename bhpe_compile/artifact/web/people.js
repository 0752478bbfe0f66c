// people.js - what the outputs of a network say of the person in a picture, as `bhpe-compile run` writes it.
const PIXELS = "pixels of the photograph; [0, 0] is the middle of its first pixel";
const UNITS = {
  box: `x, y, width, height in ${PIXELS}`,
  joints: `x, y in ${PIXELS}`,
  rotations: "axis-angle in radians, relative to the joint above",
  boxes: `x, y, width, height in ${PIXELS}`,
  coefficients: "standard deviations of the body model",
};

/** What went wrong, in a sentence: the C library's where it was the one that refused. */
export class ModelError extends Error {
  name = "ModelError";
}

/** `frame`: what `setPicture` returned; `outputs`: values by name; `joints`: [x, y] by name, or null. */
export function describePose(network, frame, outputs, joints) {
  for (const [name, values] of Object.entries(outputs))
    if (!(values instanceof BigInt64Array) && !values.every(Number.isFinite))
      throw new ModelError(`the network returned ${name} with values that are no numbers: its weights are broken`);
  const found = network.outputs.filter(({ name }) => name in outputs);
  const entries = (kinds, entry) => found.filter(({ kind }) => kinds.includes(kind)).flatMap((one) => entry(one, outputs[one.name]));
  const rotations = entries(["axis-angle", "rotation"], turns);
  const person = {
    box: pixels(usedBox(frame)),
    joints: joints && Object.fromEntries(Object.entries(joints).map(([name, point]) => [name, pixels(point)])),
    rotations: rotations.length ? Object.fromEntries(rotations) : null,
    camera: camera(network, frame, outputs),
    boxes: Object.fromEntries(entries(["boxes"], (one, values) => [[one.part || one.name, corners(frame, values)]])),
    coefficients: Object.fromEntries(entries(["coefficients"], (one, values) => [[one.name, plain(values)]])),
    ...Object.fromEntries(entries(["codes"], (one, values) => [[one.name, Array.from(values, Number)]])),
  };
  return { network: network.network, people: [person], units: units(network) };
}

function units(network) {
  const codes = network.outputs.filter(({ kind }) => kind === "codes").map(({ name, unit }) => [name, unit ?? ""]);
  return { ...unitsOfCamera(network), ...Object.fromEntries(codes) };
}

function unitsOfCamera(network) {
  const camera = network.outputs.find(({ kind }) => kind === "camera");
  if (!camera) return UNITS;
  const known = { focal: "pixels of the photograph", principal: PIXELS, translation: camera.unit ?? "" };
  const values = { values: camera.unit || "as the network gives them" };
  return { ...UNITS, camera: camera.focal ? known : isWeak(camera) ? { ...values, ...known, translation: "metres" } : values };
}

/** The box cut to the picture, counting whole pixels. */
function usedBox({ width, height, box }) {
  const [x, y, w, h] = box ?? [0, 0, width, height];
  const left = Math.max(0, x), top = Math.max(0, y);
  return [left, top, Math.min(width - 1, x + w - 1) - left + 1, Math.min(height - 1, y + h - 1) - top + 1];
}

/** [name, axis-angle] of every joint of an output with rotations. */
function turns({ name, kind, names = [] }, values) {
  const size = kind === "rotation" ? 9 : 3;
  return Array.from({ length: values.length / size }, (_, index) => {
    const part = values.subarray(index * size, (index + 1) * size);
    return [names[index] ?? `${name}${index}`, plain(kind === "rotation" ? axisAngle(part) : part)];
  });
}

function camera({ inputs, outputs }, frame, found) {
  const described = outputs.find(({ name, kind }) => kind === "camera" && name in found);
  if (!described) return null;
  const values = plain(found[described.name]);
  const [, , rows, columns] = inputs.find(({ kind }) => kind === "picture").shape;
  const middle = [toPicture(columns / 2, frame.scale, frame.x), toPicture(rows / 2, frame.scale, frame.y)];
  if (described.focal != null)
    return { translation: values, focal: rounded(described.focal * frame.scale, 2), principal: pixels(middle) };
  const [first, right, down] = found[described.name];
  const scale = (first * rows * frame.scale) / 2; // pixels in a metre
  if (!isWeak(described) || !(scale > 0)) return { values };
  const told = inputs.some(({ kind }) => kind === "box"); // then it is the whole picture's camera
  const diagonal = Math.sqrt(frame.width * frame.width + frame.height * frame.height);
  const focal = told ? frame.focal ?? diagonal : FAR * frame.scale;
  const principal = told ? [frame.width / 2, frame.height / 2] : middle;
  const aside = [right, down].map((shift, axis) => (middle[axis] + scale * shift - principal[axis]) / scale);
  return { values, translation: plain([...aside, focal / scale]), focal: rounded(focal, 2), principal: pixels(principal) };
}

/** Whether a camera's values are a scale and shifts of the input, as runtime/camera.py says them. */
const isWeak = ({ unit = "" }) => unit.startsWith("weak perspective");
const FAR = 5000; // pixels of the input: a focal length that stands for none

function corners({ x, y, scale }, values) {
  const [left, top, right, bottom] = Array.from(values, (value, index) => toPicture(value, scale, index % 2 ? y : x));
  return pixels([left, top, right - left, bottom - top]);
}

const toPicture = (value, scale, offset) => value * scale + offset;
const pixels = (values) => Array.from(values, (value) => rounded(value, 2));
const plain = (values) => Array.from(values, (value) => rounded(value, 6));

/** The nearest decimal number; of two that are as near, the even one. */
export function rounded(value, decimals) {
  const halves = Math.abs(value) * 2 ** (decimals + 1);
  if (halves % 2 !== 1) return Number(value.toFixed(decimals)) + 0; // + 0: no -0
  const below = Math.floor(Math.abs(value) * 10 ** decimals);
  return (Math.sign(value) * (below + (below % 2))) / 10 ** decimals + 0;
}

/** A 3 x 3 rotation as axis times angle, up to pi: of a matrix that is not quite a rotation, the nearest one.
 *
 * Its quaternion is the eigenvector of the largest eigenvalue of a symmetric matrix (Bar-Itzhack, Journal of Guidance 23,
 * 2000), which Jacobi's rotations find. */
export function axisAngle([a, b, c, d, e, f, g, h, i]) {
  const trace = a + e + i;
  const matrix = [
    [2 * a - trace, b + d, c + g, h - f],
    [b + d, 2 * e - trace, f + h, c - g],
    [c + g, f + h, 2 * i - trace, d - b],
    [h - f, c - g, d - b, trace],
  ];
  let quaternion = largestEigenvector(matrix);
  if (quaternion[3] < 0) quaternion = quaternion.map((value) => -value);
  const [x, y, z, real] = quaternion;
  const length = Math.hypot(x, y, z);
  const scale = length > 1e-12 ? (2 * Math.atan2(length, real)) / length : 2;
  return [x * scale, y * scale, z * scale];
}

function largestEigenvector(m) {
  const size = m.length;
  const vectors = m.map((_, row) => m.map((_, column) => Number(row === column)));
  for (let sweep = 0; sweep < 12; sweep++)
    for (let p = 0; p < size; p++)
      for (let q = p + 1; q < size; q++) {
        if (m[p][q] === 0) continue;
        const theta = (m[q][q] - m[p][p]) / (2 * m[p][q]);
        const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
        const cosine = 1 / Math.hypot(t, 1), sine = t * cosine;
        const turn = (row, one, two) => [row[one], row[two]] = [cosine * row[one] - sine * row[two], sine * row[one] + cosine * row[two]];
        for (const row of m) turn(row, p, q);
        for (let k = 0; k < size; k++) [m[p][k], m[q][k]] = [cosine * m[p][k] - sine * m[q][k], sine * m[p][k] + cosine * m[q][k]];
        for (const row of vectors) turn(row, p, q);
      }
  const largest = m.reduce((best, row, index) => (row[index] > m[best][best] ? index : best), 0);
  return vectors.map((row) => row[largest]);
}
