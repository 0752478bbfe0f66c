"""HMR of SPIN: a picture of a person to SMPL rotations, shape and camera."""
