"""nearer serve and a robot with openpi's client in another Python; run by compatibility.py.

    python openpi_serving.py FOLDER PYTHON_OF_THE_CLIENT

Prints one JSON line: what the client found, and the numpy of the server.
"""

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from nearer.commands.serve import server_of
from nearer.configs.serve import ServeConfig
from nearer.core.spaces import Camera, Spaces
from nearer.models.factory import new_model
from nearer.models.settings import SmallVLAConfig
from nearer.runs.checkpoint import save_checkpoint

FRAMES = 20
SPACES = Spaces(agent_pos=2, environment_state=0, action=2, cameras=(Camera("front", 96, 128),))
INSTRUCTION = "push the red moon to the blue cube"


def main(folder: Path, client: str) -> None:
    """Serve an untrained policy, and let the client ask it."""
    model = new_model("small-vla", SmallVLAConfig(hidden=16), SPACES, (INSTRUCTION,), seed=0)
    save_checkpoint(folder / "000001", model.eval(), None)
    config = ServeConfig(checkpoint=folder / "000001", threshold=1.0)
    server = server_of(config, lambda line: None)
    ports: list[int] = []
    listening = threading.Event()

    def ready(port: int) -> None:
        ports.append(port)
        listening.set()

    thread = threading.Thread(target=server.run, args=("127.0.0.1", 0, ready))
    thread.start()
    listening.wait()
    robot = str(Path(__file__).with_name("openpi_robot.py"))
    try:
        said = subprocess.run(
            [client, robot, str(ports[0]), str(FRAMES)], capture_output=True, text=True, check=True
        ).stdout
    finally:
        server.stop()
        thread.join()
    print(json.dumps({**json.loads(said), "numpy_of_the_server": np.__version__}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
