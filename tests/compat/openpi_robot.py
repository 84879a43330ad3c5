"""A robot with openpi's own client, in an environment without nearer; run by openpi_serving.py.

    python openpi_robot.py PORT FRAMES

Sends frames with an image and prints one JSON line: what was answered.
"""

import json
import sys
import time
import warnings

import numpy as np
from openpi_client import image_tools
from openpi_client.websocket_client_policy import WebsocketClientPolicy


def main(port: int, frames: int) -> None:
    """Drive a robot for some frames."""
    warnings.simplefilter("ignore", DeprecationWarning)
    robot = WebsocketClientPolicy("127.0.0.1", port)
    rng = np.random.default_rng(0)
    actions, steps_to_go, seconds = [], [], []
    for step in range(frames):
        image = rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)
        message = {
            "observation/state": rng.normal(size=2),
            "observation/images/front": image_tools.resize_with_pad(image, 96, 128),
            "prompt": "push the red moon to the blue cube",
            "reset": step == 0,
            "step": step,
        }
        begun = time.perf_counter()
        answer = robot.infer(message)
        seconds.append(time.perf_counter() - begun)
        assert answer["step"] == step
        actions.append(answer["actions"])
        steps_to_go.append(answer["steps_to_go"])
    found = {
        "numpy_of_the_client": np.__version__,
        "frames": frames,
        "actions": f"{actions[0].dtype} {list(actions[0].shape)}",
        "finite": bool(np.isfinite(actions).all() and np.isfinite(steps_to_go).all()),
        "median_ms": round(1000 * float(np.median(seconds)), 1),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
