"""Configs of cameras register themselves when their package is imported."""

import draccus


class CameraConfig(draccus.ChoiceRegistry):
    """A camera of lerobot."""
