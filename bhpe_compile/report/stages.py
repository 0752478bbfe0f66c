"""The five parts of a whole-body network that a cost is told by, in the order of the data."""

from __future__ import annotations

BODY, BOX, HANDS, FACE, HEADS, OTHER = "body trunk", "box net", "hands", "face", "heads", "other"

STAGES = (BODY, BOX, HANDS, FACE, HEADS, OTHER)

_MODULES = {
    "backbone": BODY,
    "box_net": BOX,
    "hand_roi_net": HANDS,
    "face_roi_net": FACE,
    "body_position_net": HEADS,
    "body_rotation_net": HEADS,
    "hand_position_net": HEADS,
    "hand_rotation_net": HEADS,
    "face_regressor": HEADS,
}


def stage_of(layer: str) -> str:
    """The part the layer at this path belongs to; "other" outside Hand4Whole."""
    return _MODULES.get(layer.removeprefix("module.").partition(".")[0], OTHER)
