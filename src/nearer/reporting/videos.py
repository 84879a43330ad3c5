"""Videos of recorded episodes: the same seed and actions once more, with rendering on.

An env here is a function of its seed and the actions, so nothing has to be rendered while a policy
acts. The replay is compared with the recording: where the two differ there is no video.
"""

import io
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, cast

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from nearer.core.action_chunks import PLAIN, Chunking
from nearer.core.arrays import Array
from nearer.core.chunk_actions import split_decisions
from nearer.core.episode import Ended, Episode
from nearer.core.errors import EnvError
from nearer.datasets.lerobot.videos import VideoEncoding, encode_video
from nearer.fleets.env_errors import running
from nearer.fleets.env_reset import seeded_reset
from nearer.fleets.env_settings import AS_IT_IS, EnvSettings
from nearer.fleets.env_spaces import control_rate, env_spaces
from nearer.fleets.find_env import AnyEnv, env_spec, make_env
from nearer.fleets.gym import env_name
from nearer.runs.files import disk_errors_as_sentences, write_bytes

MAX_VIDEO_BYTES = 60_000
"""Largest size of a video, so that a page with a dozen of them opens at once."""

_MAX_WIDTH_PX = 480
_QUALITIES = (
    22,
    26,
    30,
    34,
    38,
    44,
)  # H.264 CRF, best first; the first that fits is taken
_POSTER_QUALITY = 75
_HOLD_S = 1.0  # of the last image, so that a looping video shows how the episode ended
_BORDER_PX = 4
_SUCCESS_RGB = (0, 158, 115)  # Okabe and Ito's (2008) bluish green; no block has this colour
_DEFAULT_FPS = 10  # Gymnasium's metadata need not name a rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """A video of one episode, from its first to its last observation.

    Attributes:
        mp4: H.264 with 4:2:0 chroma (yuv420p), which every browser plays; at the control rate.
        poster: the first image, as JPEG; shown until the video plays.
    """

    mp4: bytes
    poster: bytes


@contextmanager
def rendering_env(
    env_id: str, settings: EnvSettings = AS_IT_IS
) -> Generator[AnyEnv | None, None, None]:
    """Yield an env that renders RGB images; None where it cannot.

    None as well where the env is registered as nondeterministic, such as a real robot: it would
    not repeat the episode, and it must not move for the sake of a video.

    Raises:
        EnvError: the env cannot be made.
    """
    env = _rendering_env_of(env_id, settings)
    try:
        yield env
    finally:
        if env is not None:
            env.close()


def _rendering_env_of(env_id: str, settings: EnvSettings) -> AnyEnv | None:
    if env_spec(env_id).nondeterministic:
        return None
    plain = make_env(env_id, settings)
    can_render = "rgb_array" in (plain.metadata.get("render_modes") or ())
    plain.close()
    if not can_render:
        return None
    return make_env(env_id, settings, render_mode="rgb_array")


def replay(
    env: AnyEnv,
    seed: int,
    actions: Float32[Array, "steps action"],
    agent_pos: Float32[Array, "obs joints"],
    chunking: Chunking = PLAIN,
    settings: EnvSettings = AS_IT_IS,
) -> Iterator[UInt8[Array, "h w 3"]]:
    """Yield the rendered images of a recorded episode, from its first to its last observation.

    Args:
        env: made with `rendering_env`.
        seed: with which the episode was reset.
        actions: as recorded.
        agent_pos: as recorded; one more than actions.
        chunking: how each of these actions splits into control steps; there is an image a control
            step.
        settings: that the env was made with.

    Raises:
        EnvError: the env does not repeat the recorded path bit for bit, renders no RGB images, or
            fails.
    """
    name = env_name(env)
    spaces = env_spaces(env.unwrapped, env.observation_space, env.action_space, settings)
    with running(name, "reset", [seed]):
        raw, _ = seeded_reset(env, seed)
    _check_repeats(spaces.reader.read(raw).agent_pos, agent_pos[0], seed, step=0)
    yield _render(env)
    for step, decision in enumerate(actions):
        for action in split_decisions(chunking, decision, agent_pos[step]):
            with running(name, "step", [seed]):
                raw, _, terminated, truncated, _ = env.step(spaces.env_action(action))
            yield _render(env)
            if terminated or truncated:
                break  # as the fleet does: the rest of the chunk is not executed
        now = spaces.reader.read(raw).agent_pos
        _check_repeats(now, agent_pos[step + 1], seed, step + 1)


def make_video(images: Iterable[UInt8[Array, "h w 3"]], fps: int, *, success: bool) -> Video:
    """Return images as a small video; after a success the last image has a green border.

    Args:
        images: all of one size; each is scaled down as it arrives.
        fps: control steps a second, so that the video runs as fast as the robot did.
        success: whether the episode ended in success.
    """
    small = np.stack([_downscaled(image) for image in images])
    poster = io.BytesIO()
    Image.fromarray(small[0]).save(poster, "JPEG", quality=_POSTER_QUALITY)
    last = _with_border(small[-1]) if success else small[-1]
    held = np.repeat(last[None], max(1, round(_HOLD_S * fps)), axis=0)
    return Video(mp4=_encoded(np.concatenate([small, held]), fps), poster=poster.getvalue())


def frame_rate(env: AnyEnv) -> int:
    """Return the control steps a second that an env names: `control_hz`, or its `render_fps`."""
    return control_rate(env.unwrapped) or _DEFAULT_FPS


def episode_videos(
    env_id: str,
    episodes: Sequence[Episode],
    chunking: Chunking = PLAIN,
    settings: EnvSettings = AS_IT_IS,
) -> Iterator[Video]:
    """Yield a video of each episode; nothing where the env renders no images.

    Raises:
        EnvError: the env cannot be made, or does not repeat an episode.
    """
    with rendering_env(env_id, settings) as env:
        for episode in episodes if env else ():
            assert env is not None, "without an env there is nothing to go through"
            recorded = episode.observations.agent_pos
            images = replay(env, episode.seed, episode.actions, recorded, chunking, settings)
            success = episode.ended is Ended.SUCCESS_TRUE
            yield make_video(images, frame_rate(env), success=success)


def write_video(video: Video, folder: Path, index: int) -> None:
    """Write a video as INDEX.mp4 and its poster as INDEX.jpg.

    Raises:
        ConfigError: the folder cannot be written.
    """
    write_bytes(folder / f"{index}.jpg", video.poster)
    write_bytes(folder / f"{index}.mp4", video.mp4)


def remove_videos(folder: Path) -> None:
    """Remove the videos of an earlier evaluation, which would be taken for those of the new one.

    Raises:
        ConfigError: the folder cannot be written.
    """
    with disk_errors_as_sentences(folder):
        for path in (*folder.glob("*.mp4"), *folder.glob("*.jpg")):
            path.unlink()


def _check_repeats(
    replayed: Float32[Array, "joints"], recorded: Float32[Array, "joints"], seed: int, step: int
) -> None:
    """Raise EnvError unless the env is where it was when the episode was recorded."""
    if not recorded.size:
        return  # an env without proprioception: nothing was recorded to compare with
    if not np.array_equal(replayed, recorded):
        raise EnvError(
            f"a replay must repeat the recorded episode bit for bit, got agent_pos {replayed} at "
            f"step {step} of seed {seed} in place of {recorded}; draw all of the env's randomness "
            "from the seed of its reset, or evaluate with --videos 0"
        )


def _render(env: AnyEnv) -> UInt8[Array, "h w 3"]:
    with running(env_name(env), "render"):
        image = np.asarray(cast(Any, env.render()))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise EnvError(
            "render() must return an RGB image of uint8 (height, width, 3), got "
            f"{image.dtype} of shape {image.shape}; fix the env's rgb_array mode, or evaluate "
            "with --videos 0"
        )
    return image


def _downscaled(image: UInt8[Array, "h w 3"]) -> UInt8[Array, "_ _ 3"]:
    """Return an image at most _MAX_WIDTH_PX wide, with even sides as 4:2:0 chroma needs."""
    height, width = image.shape[:2]
    scale = min(1.0, _MAX_WIDTH_PX / width)
    return np.asarray(
        Image.fromarray(image).resize((_even_pixels(width * scale), _even_pixels(height * scale)))
    )


def _even_pixels(length: float) -> int:
    return max(2, 2 * round(length / 2))


def _with_border(image: UInt8[Array, "h w 3"]) -> UInt8[Array, "h w 3"]:
    bordered = np.empty_like(image)
    bordered[:] = _SUCCESS_RGB
    inside = slice(_BORDER_PX, -_BORDER_PX)
    bordered[inside, inside] = image[inside, inside]
    return bordered


def _encoded(frames: UInt8[Array, "obs h w 3"], fps: int) -> bytes:
    """Return the video in the best quality within MAX_VIDEO_BYTES, else in the lowest quality."""
    mp4 = b""
    for quality in _QUALITIES:
        encoding = VideoEncoding(
            codec="h264",
            pix_fmt="yuv420p",
            keyframe_every=len(frames),  # people watch from the start
            crf=quality,
            preset="slow",
        )
        with TemporaryFile() as handle:  # an mp4 is finished by going back to its start
            encode_video(handle, [frames], fps, encoding)
            handle.seek(0)
            mp4 = handle.read()
        if len(mp4) <= MAX_VIDEO_BYTES:
            break
    return mp4
