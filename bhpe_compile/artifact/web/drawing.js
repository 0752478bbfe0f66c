// drawing.js - the skeleton over a picture, in the colours of `bhpe-compile run --overlay`: left is orange, right is blue,
// as the person sees it; a dark rim shows on any ground.
const COLOURS = { left: "#ff9628", right: "#46aaff", middle: "#78e678", face: "#ffe150" };
const RIM = "#14141c", JOINT = "#f5f5f5";

const sideOf = (name) => {
  const word = name.split(/[_ ]/)[0];
  return word in COLOURS ? word : "middle";
};

/** What is drawn of a network's keypoints: its bones by width and colour, and its joints. */
export function skeletonOf({ skeleton = {}, outputs }) {
  const names = new Set(outputs.find(({ kind }) => kind === "keypoints")?.names ?? []);
  const small = new Set(skeleton.small ?? []);
  const bones = (skeleton.bones ?? []).filter((bone) => bone.every((name) => names.has(name)));
  return [true, false].map((fine) => ({
    width: fine ? 1.1 : 2,
    radius: fine ? 0.9 : 1.7,
    bones: Object.values(COLOURS).map((colour) => [
      colour,
      bones.filter(([, end]) => small.has(end) === fine && COLOURS[sideOf(end)] === colour),
    ]),
    joints: [...names].filter((name) => small.has(name) === fine).map((name) => [name, fine ? COLOURS[sideOf(name)] : JOINT]),
  }));
}

/** The box that a person is looked for in. */
export function drawBox(canvas, [x, y, width, height], unit) {
  for (const [line, colour] of [[1.8, RIM], [1, JOINT]]) {
    canvas.lineWidth = line * unit;
    canvas.strokeStyle = colour;
    canvas.strokeRect(x + unit, y + unit, width - 2 * unit, height - 2 * unit);
  }
}

/** `unit`: pixels that lines and joints are measured in. */
export function drawSkeleton(canvas, skeleton, joints, unit) {
  canvas.lineCap = "round";
  const place = ([x, y]) => [x + 0.5, y + 0.5];
  const stroke = (bones, width, colour) => {
    canvas.beginPath();
    for (const [start, end] of bones) {
      canvas.moveTo(...place(joints[start]));
      canvas.lineTo(...place(joints[end]));
    }
    canvas.lineWidth = width;
    canvas.strokeStyle = colour;
    canvas.stroke();
  };
  const dot = (point, radius, colour) => {
    canvas.beginPath();
    canvas.arc(...place(point), radius, 0, 2 * Math.PI);
    canvas.fillStyle = colour;
    canvas.fill();
  };
  for (const { width, bones } of skeleton) {
    stroke(bones.flatMap(([, group]) => group), 1.8 * width * unit, RIM);
    for (const [colour, group] of bones) stroke(group, width * unit, colour);
  }
  for (const { radius, joints: drawn } of skeleton)
    for (const [name, colour] of drawn) {
      dot(joints[name], (radius + 0.5) * unit, RIM);
      dot(joints[name], radius * unit, colour);
    }
}
