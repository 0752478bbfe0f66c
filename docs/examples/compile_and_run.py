"""From a checkpoint to a pose, in Python: compile, look into the artefact, run, verify.

    python docs/examples/compile_and_run.py FOLDER

FOLDER gets the example (`bhpe-compile example`) and the compiled model. A test runs this script.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

import bhpe_compile
from bhpe_compile.runtime import load_picture

folder = Path(sys.argv[1])
if not (folder / "model.pt").exists():
    subprocess.run([sys.executable, "-P", "-m", "bhpe_compile.cli", "example", folder], check=True)

# Compile for this machine. Every option of the command has its argument; errors are one clear line.
artifact = bhpe_compile.compile_model(
    folder / "model.pt",
    target="native",
    output=folder / "model-native",
    keep_float=["box_net.*"],
    progress=lambda stage, step, done: print(f"{done:4.0%} {stage} {step}") if not step else None,
)

# What is in it, and why.
print(artifact, artifact.outputs)
print("binary weights:", artifact.report["weights"]["binary"])
(stem,) = artifact.explain("backbone.conv1")
print(stem.name, "is", stem.precision, "because:", stem.decisions[0].reason)

# Run it. `load_picture` cuts and scales a photograph as the network expects it.
picture = load_picture(folder / "person.png")
with artifact.open(threads=1) as model:
    outputs = model.run(picture)
print("body pose:", outputs["smplx_body_pose"].shape, "camera:", np.round(outputs["cam_trans"], 2))

# An artefact made before is loaded by its folder; its hashes are checked first.
again = bhpe_compile.load_artifact(folder / "model-native")
checked = again.verify(model=folder / "model.pt")
print("verified:", checked.ok, "largest difference:", f"{checked.max_abs_error:.1e}")
sys.exit(0 if checked.ok else 4)
