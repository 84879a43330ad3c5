"""What lerobot itself writes and reads, in an environment without nearer; run by lerobot_data.py.

python lerobot_side.py write FOLDER      a data set, and in FOLDER.npz what it should hold
python lerobot_side.py read FOLDER       a data set of another writer -> FOLDER.npz
"""

import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

FPS, EPISODES, FRAMES, HEIGHT, WIDTH = 10, 3, 20, 96, 128
FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (4,), "names": None},
    "action": {"dtype": "float32", "shape": (2,), "names": None},
    "observation.images.front": {
        "dtype": "image",
        "shape": (HEIGHT, WIDTH, 3),
        "names": ["height", "width", "channels"],
    },
    "observation.images.wrist": {
        "dtype": "video",
        "shape": (HEIGHT, WIDTH, 3),
        "names": ["height", "width", "channels"],
    },
}


def write(folder: Path) -> None:
    """Write a data set with numbers, an image and a video, and keep what went in."""
    dataset = LeRobotDataset.create("some/body", FPS, FEATURES, root=folder, robot_type="arm")
    rng = np.random.default_rng(0)
    states, actions, images = [], [], []
    ramp = np.linspace(0, 200, WIDTH, dtype=np.uint8)
    for episode in range(EPISODES):
        for frame in range(FRAMES):
            state = rng.normal(size=4).astype(np.float32)
            action = rng.normal(size=2).astype(np.float32)
            image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            image[:, :, 0], image[:, :, 1] = ramp, 60 * episode
            image[:, :, 2] = 10 * frame
            dataset.add_frame(
                {
                    "observation.state": state,
                    "action": action,
                    "observation.images.front": image,
                    "observation.images.wrist": image,
                    "task": f"task {episode % 2}",
                }
            )
            states.append(state)
            actions.append(action)
            images.append(image)
        dataset.save_episode()
    dataset.finalize()
    np.savez(f"{folder}.npz", state=states, action=actions, image=images)


def read(folder: Path) -> None:
    """Read every frame, as a training of lerobot does."""
    dataset = LeRobotDataset("some/body", root=folder)
    rows = [dataset[index] for index in range(len(dataset))]
    cameras = [key for key in rows[0] if key.startswith("observation.images.")]
    columns = {
        "state": [row["observation.state"].numpy() for row in rows],
        "action": [row["action"].numpy() for row in rows],
        "task": [row["task"] for row in rows],
        "episode_index": [int(row["episode_index"]) for row in rows],
        "timestamp": [float(row["timestamp"]) for row in rows],
        # Images come as float in 0..1, channels first.
        "image": [
            (255 * row[cameras[0]].numpy()).round().astype(np.uint8).transpose(1, 2, 0)
            for row in rows
        ],
    }
    np.savez(f"{folder}.npz", **columns)


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
