"""From a checkpoint to a pose, in Python: compile, look into the artefact, run, verify.

    python docs/examples/compile_and_run.py FOLDER

FOLDER gets the example (`bhpe-compile example`) and the compiled model. A test runs this script.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import bhpe_compile

folder = Path(sys.argv[1])
if not (folder / "model-bidrn.pt").exists():
    subprocess.run([sys.executable, "-P", "-m", "bhpe_compile.cli", "example", folder], check=True)

# Compile for this machine: a network that `distill` trained in its binary form (any other wants scheme="int8").
# Every option of the command has its argument; errors are one clear line.
artifact = bhpe_compile.compile_model(
    folder / "model-bidrn.pt",
    target="native",
    output=folder / "model-native",
    progress=lambda stage, step, done: print(f"{done:4.0%} {stage} {step}") if not step else None,
)

# What is in it, and why.
print(artifact, artifact.outputs)
print("binary weights:", artifact.report["weights"]["binary"])
(stem,) = artifact.explain("backbone.conv1")
print(stem.name, "is", stem.precision, "because:", stem.decisions[0].reason)

# Run it on a frame, uint8 [H, W, 3]; `box` says where the person is. Joints are in pixels of the frame.
frame = np.asarray(Image.open(folder / "drawn.jpg"))
with artifact.open(threads=1) as model:
    outputs = model.run(frame, box=(0, 0, 384, 512))
    x, y = model.joints()["left_wrist"]
print("body pose:", outputs["smplx_body_pose"].shape, "left wrist:", round(x), round(y))

# An artefact made before is loaded by its folder; its hashes are checked first.
again = bhpe_compile.load_artifact(folder / "model-native")
checked = again.verify(model=folder / "model-bidrn.pt")
print("verified:", checked.ok, "largest difference:", f"{checked.max_abs_error:.1e}")
sys.exit(0 if checked.ok else 4)
