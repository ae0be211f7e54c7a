"""Generated hands: a skinned model in random shapes and poses, as one depth camera sees it."""

from geo3d.data.hands.dataset import Hands

__all__ = ["Hands"]
