"""openpi's clients as they are published: their keys, and how much of an answer they execute.

droid   observation/joint_position (7), observation/gripper_position (1), prompt,
        observation/exterior_image_1_left and observation/wrist_image_left, h x w x 3
aloha   state (14) and images/CAMERA, 3 x h x w; no prompt
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nearer.datasets.lerobot.camera_names import IMAGES
from nearer.datasets.lerobot.feature import AGENT_POS


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientProfile:
    """A client of openpi's, as it is published.

    Attributes:
        keys: see `ClientFormat`; cameras have every name under which public data sets know them.
        channels_first: see `ClientFormat`.
        chunk: control steps that it expects in an answer.
        longer: whether answers may have more of them.
        axes: numbers of an action.
        horizon: what is to be changed for other answers.
    """

    keys: Mapping[str, tuple[str, ...]]
    channels_first: bool
    chunk: int
    longer: bool
    axes: int
    horizon: str

    def fits(self, chunk: int, axes: int) -> bool:
        """Tell whether the client takes answers of so many control steps and numbers."""
        return axes == self.axes and (chunk == self.chunk or (self.longer and chunk > self.chunk))


_DROID_EXTERIOR = ("observation/exterior_image_1_left",)
_DROID_WRIST = ("observation/wrist_image_left",)
PROFILES: Mapping[str, ClientProfile] = {
    # Source: openpi, examples/droid/main.py; exterior_1_left, wrist_left: lerobot/droid_1.0.1.
    "droid": ClientProfile(
        keys={
            AGENT_POS: ("observation/joint_position", "observation/gripper_position"),
            IMAGES + "exterior_image_1_left": _DROID_EXTERIOR,
            IMAGES + "exterior_1_left": _DROID_EXTERIOR,
            IMAGES + "wrist_image_left": _DROID_WRIST,
            IMAGES + "wrist_left": _DROID_WRIST,
        },
        channels_first=False,
        chunk=10,
        longer=False,  # it asserts the shape (10, 8)
        axes=8,
        horizon="open_loop_horizon and its assertion on the shape of an answer",
    ),
    # Source: openpi, examples/aloha_real/env.py and main.py.
    "aloha": ClientProfile(
        keys={
            AGENT_POS: ("state",),
            **{
                f"{IMAGES}{camera}": (f"images/{camera}",)
                for camera in ("cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist")
            },
        },
        channels_first=True,
        chunk=25,
        longer=True,
        axes=14,
        horizon="action_horizon",
    ),
}
"""By `--client`."""
