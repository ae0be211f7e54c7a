"""Names of joints, bones and parts of a hand, and where they are in the skinned model."""

FINGERS = ("thumb", "index", "middle", "ring", "little")

JOINTS = (
    "wrist",
    *(f"thumb_{name}" for name in ("cmc", "mcp", "ip", "tip")),
    *(f"{finger}_{name}" for finger in FINGERS[1:] for name in ("mcp", "pip", "dip", "tip")),
)
"""The 21 joints, from the wrist to the tip of the little finger."""

BONES = tuple((0 if joint % 4 == 1 else joint - 1, joint) for joint in range(1, len(JOINTS)))
"""The two joints of each of the 20 bones."""

PARTS = ("palm", *(f"{finger}_{number}" for finger in FINGERS for number in (1, 2, 3)))
"""The 16 parts: the palm, and the bones of each finger from its base to its tip."""

MODEL_JOINTS = ((2, 3, 4), (6, 7, 8), (10, 11, 12), (14, 15, 16), (18, 19, 20))
"""The three bones of each finger in the model."""
PALM = (0, 1, 5, 9, 13, 17)
"""Bones of the model that belong to the palm: the root, the wrist and the metacarpals."""
WRIST = 1
TIPS = (782, 29, 221, 413, 605)
"""Vertices of the model at the tips of the fingers."""
