"""VQ-HPS: a picture to the codes of a body mesh, a rotation and a camera."""
