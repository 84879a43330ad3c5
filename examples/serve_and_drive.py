"""A policy behind openpi's websocket protocol, and a robot that openpi's own client drives.

    pip install 'nearer[serve]' && pip install --no-deps openpi-client==0.1.2
    python examples/serve_and_drive.py

Trains a small policy in seconds, serves it as `nearer serve --checkpoint RUN` does, and lets a
robot ask it until one of them says that it is done. The robot's side, `drive`, needs no nearer.
"""

import tempfile
import threading
import warnings
from pathlib import Path

import gymnasium
from openpi_client.websocket_client_policy import WebsocketClientPolicy

from nearer.cli import main
from nearer.commands.serve import server_of
from nearer.configs.serve import ServeConfig

ENV = "nearer/PointMass-v0"
# openpi's client of 2025 connects in a way that websockets 17 deprecates.
warnings.filterwarnings("ignore", r"connect\(\) must be used as", DeprecationWarning)


def drive(env: gymnasium.Env, port: int, starts: int, max_steps: int = 140) -> None:
    # A robot with a name finds its memory again if its connection breaks.
    robot = WebsocketClientPolicy(f"ws://127.0.0.1:{port}/?robot=left-arm")
    print("the server says:", robot.get_server_metadata())
    for start in range(starts):
        observation, info = env.reset(seed=start)
        for step in range(max_steps):
            answer = robot.infer(
                {
                    "observation/state": observation["agent_pos"],
                    "observation/environment_state": observation["environment_state"],
                    "prompt": "touch the goal",
                    "reset": step == 0,
                    "step": step,
                }
            )
            assert answer["step"] == step  # after a timeout this tells a late answer from this one
            if answer["done"] or info["is_success"]:
                break
            observation, _, _, _, info = env.step(answer["actions"][0])
        said = f"done {answer['done']}, {answer['steps_to_go']:.1f} steps to go"
        print(f"start {start}, step {step}: {said}; the env says {info['is_success']}")
    robot._ws.close()


with tempfile.TemporaryDirectory() as folder:
    data, run = f"{folder}/data", f"{folder}/sft"
    main(["collect", "--env", ENV, "--episodes", "500", "--out", data])
    quick = ["--updates", "800", "--learning-rate", "3e-3", "--mlp.hidden", "64"]
    main(["sft", "--data", data, "--model", "mlp", "--out", run, *quick])

    server = server_of(ServeConfig(checkpoint=Path(run), max_rate=10_000))
    ports: list[int] = []
    listening = threading.Event()

    def ready(port: int) -> None:
        ports.append(port)
        listening.set()

    thread = threading.Thread(target=server.run, args=("127.0.0.1", 0, ready))
    thread.start()
    listening.wait()
    drive(gymnasium.make(ENV), ports[0], starts=5)
    server.stop()
    thread.join()
