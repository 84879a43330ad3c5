"""Videos of recorded episodes: replays of the recorded path in small files for browsers."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import gymnasium
import numpy as np
import pytest
from PIL import Image

from arm_env import ARM, ScriptedPolicy, registered_arm
from nearer.algorithm.rollout import rollout
from nearer.commands.eval import run_eval
from nearer.configs.eval import EvalConfig
from nearer.core.action_chunks import Chunking
from nearer.core.episode import EncodedObservation, Ended, Episode, Observation
from nearer.core.errors import EnvError
from nearer.evaluation.ground_truth import NoTermination
from nearer.fleets.chunked import ChunkedFleet
from nearer.fleets.gym import make_fleet
from nearer.reporting.videos import (
    MAX_VIDEO_BYTES,
    episode_videos,
    make_video,
    remove_videos,
    rendering_env,
    replay,
    write_video,
)

RENDERING = "nearer-test/Counter-v0"
NO_CAMERA = "nearer-test/NoCamera-v0"
ROBOT = "nearer-test/Robot-v0"
SIZE = (72, 128)


class Counter(gymnasium.Env[Any, Any]):
    """Adds up actions; its image gets brighter with the sum. The seed gives the start."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012
    observation_space = gymnasium.spaces.Dict(
        {"agent_pos": gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)}
    )
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    num_made = 0

    def __init__(self, render_mode: str | None = None) -> None:
        Counter.num_made += 1
        self.render_mode = render_mode
        self._sum = np.zeros(1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._sum = self.np_random.uniform(0, 1, 1)
        return self._observe(), {"is_success": False, "instruction": "count"}

    def step(self, action: Any) -> Any:
        self._sum = self._sum + action
        return self._observe(), 0.0, False, False, {"is_success": bool(self._sum[0] > 3)}

    def render(self) -> Any:
        assert self.render_mode == "rgb_array"
        return np.full((*SIZE, 3), min(255, int(50 * self._sum[0])), np.uint8)

    def _observe(self) -> dict[str, Any]:
        return {"agent_pos": self._sum.astype(np.float32)}


class NoCameraCounter(Counter):
    """A counter without a camera."""

    metadata = {"render_modes": []}  # noqa: RUF012


@pytest.fixture(autouse=True)
def envs() -> Iterator[None]:
    gymnasium.register(RENDERING, lambda **settings: Counter(**settings))
    gymnasium.register(NO_CAMERA, lambda **settings: NoCameraCounter(**settings))
    gymnasium.register(ROBOT, lambda **settings: Counter(**settings), nondeterministic=True)
    yield
    for env_id in (RENDERING, NO_CAMERA, ROBOT):
        del gymnasium.registry[env_id]


def record_episode(env_id: str, seed: int, num_steps: int) -> Episode:
    """Return an episode as a fleet records it: all actions 0.3."""
    fleet = make_fleet(env_id, 1)
    robot = np.array([0])
    positions = [fleet.reset(robot, [seed]).observation.agent_pos]
    action = np.full((1, fleet.spaces.action), 0.3, np.float32)
    positions += [fleet.step(robot, action).observation.agent_pos for _ in range(num_steps)]
    fleet.close()
    no_state = np.zeros((num_steps + 1, 0), np.float32)
    return Episode(
        robot=0,
        seed=seed,
        instruction="count",
        policy_version=0,
        observations=EncodedObservation.without_features(
            Observation(agent_pos=np.concatenate(positions), environment_state=no_state)
        ),
        actions=action.repeat(num_steps, axis=0),
        log_prob=np.zeros(num_steps, np.float32),
        ended=Ended.SUCCESS_TRUE,
    )


def test_replay_of_a_recorded_episode_shows_every_observation() -> None:
    episode = record_episode(RENDERING, seed=7, num_steps=4)
    with rendering_env(RENDERING) as env:
        assert env is not None
        frames = np.stack(list(replay(env, 7, episode.actions, episode.observations.agent_pos)))
    sums = episode.observations.agent_pos[:, 0].astype(np.float64)
    assert frames[:, 0, 0, 0].tolist() == [int(50 * total) for total in sums]


def test_episode_videos_of_another_path_raises() -> None:
    episode = record_episode(RENDERING, seed=7, num_steps=4)
    changed = episode.observations.agent_pos.copy()
    changed[2] = np.nextafter(changed[2], np.float32(9))
    observations = EncodedObservation.without_features(
        replace(episode.observations.observation, agent_pos=changed)
    )
    with pytest.raises(EnvError, match=r"bit for bit, got .* at step 2 of seed 7 .* --videos 0"):
        list(episode_videos(RENDERING, [replace(episode, observations=observations)]))
    with pytest.raises(EnvError, match="at step 0 of seed 8"):
        list(episode_videos(RENDERING, [replace(episode, seed=8)]))


def test_episode_videos_without_rendering_yields_nothing() -> None:
    assert list(episode_videos(NO_CAMERA, [record_episode(NO_CAMERA, seed=1, num_steps=2)])) == []


def test_episode_videos_of_a_nondeterministic_env_does_not_make_it() -> None:
    episode = record_episode(ROBOT, seed=1, num_steps=2)
    num_before = Counter.num_made
    assert list(episode_videos(ROBOT, [episode])) == []
    assert Counter.num_made == num_before


def test_episode_videos_of_an_unknown_env_raises() -> None:
    with pytest.raises(
        EnvError, match="must be a registered Gymnasium id, got 'nearer-test/Nowhere-v0'"
    ):
        list(episode_videos("nearer-test/Nowhere-v0", []))


def frames_of(mp4: bytes) -> tuple[Any, list[Any]]:
    with av.open(io.BytesIO(mp4), "r") as container:
        stream = container.streams.video[0]
        encoding = (stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate)
        return encoding, [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


def test_make_video_is_h264_at_the_control_rate() -> None:
    images = np.arange(11, dtype=np.uint8)[:, None, None, None] * np.full((51, 77, 3), 20, "u1")
    video = make_video(images, fps=5, success=False)
    encoding, shown = frames_of(video.mp4)
    assert encoding == ("h264", "yuv420p", 5)
    assert shown[0].shape == (52, 76, 3)  # even sides
    levels = [image[20:30, 20:30].mean() for image in shown]
    assert np.allclose(levels[:11], 20 * np.arange(11), atol=4)
    assert np.allclose(levels[11:], 200, atol=4)
    assert len(shown) == 11 + 5  # the last image stands for a second
    assert Image.open(io.BytesIO(video.poster)).size == (76, 52)


@pytest.mark.parametrize("success", [True, False])
def test_make_video_of_success_alone_ends_with_a_green_border(success: bool) -> None:
    video = make_video(np.full((3, 64, 64, 3), 128, np.uint8), fps=5, success=success)
    corner = frames_of(video.mp4)[1][-1][1, 1].astype(int)
    assert (corner[1] > corner[0] + 50) == success


def test_make_video_of_noise_stays_within_its_size() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 270, 480, 3), dtype=np.uint8)
    assert len(make_video(noise, fps=5, success=False).mp4) < MAX_VIDEO_BYTES


def test_remove_videos_leaves_an_empty_folder(tmp_path: Path) -> None:
    video = make_video(np.zeros((2, 64, 64, 3), np.uint8), fps=5, success=False)
    write_video(video, tmp_path / "videos", 3)
    assert (tmp_path / "videos/3.mp4").read_bytes() == video.mp4
    assert (tmp_path / "videos/3.jpg").read_bytes() == video.poster
    remove_videos(tmp_path / "videos")
    assert list((tmp_path / "videos").iterdir()) == []


def test_eval_of_the_point_mass_writes_rollouts_and_no_videos(
    stage_one: Path, tmp_path: Path
) -> None:
    env, run = "nearer/PointMass-v0", stage_one / "sft"
    out = tmp_path / "eval"
    (out / "videos").mkdir(parents=True)
    (out / "videos/0.mp4").write_bytes(b"of another evaluation")
    run_eval(EvalConfig(checkpoint=run, env=env, episodes=2, max_steps=5, num_envs=2, out=out))
    assert (out / "rollouts.json").exists()
    assert list((out / "videos").iterdir()) == []


def test_replay_of_relative_chunks_shows_every_control_step() -> None:
    chunking = Chunking(chunk=3, relative=True)
    decisions = np.full((9, 6), 0.05, np.float32)
    decisions[:, 2:4] += 0.05
    decisions[:, 4:] += 0.1
    policy = ScriptedPolicy([decisions])
    with registered_arm():
        fleet = ChunkedFleet(make_fleet(ARM, 1), chunking)
        (episode,) = rollout(fleet, policy, NoTermination(), seeds=iter([2]), max_steps=12)
        recorded = episode.observations.agent_pos
        with rendering_env(ARM) as env:
            assert env is not None
            frames = np.stack(list(replay(env, episode.seed, episode.actions, recorded, chunking)))
            assert frames[:, 0, 0, 0].tolist() == list(range(13))
            changed = episode.actions + np.float32(0.01)
            with pytest.raises(EnvError, match="bit for bit"):
                list(replay(env, episode.seed, changed, recorded, chunking))
