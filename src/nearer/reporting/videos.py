"""Recorded episodes as films for people: the same seed and actions once more, with a camera on.

An env here is a function of its seed and the actions, so nothing has to be filmed while a policy
acts. What is filmed is checked: where the replay leaves the recorded path, there is no film.
"""

import io
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, cast

import gymnasium
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from nearer.core.action_chunks import PLAIN, Chunking
from nearer.core.arrays import Array
from nearer.core.chunk_actions import split_decisions
from nearer.core.episode import Ended, Episode
from nearer.core.errors import EnvError
from nearer.datasets.lerobot.videos import VideoEncoding, encode_video
from nearer.envs import register_envs
from nearer.fleets.env_errors import making, running
from nearer.fleets.gym import AnyEnv, control_rate, env_name
from nearer.runs.files import disk_errors_as_sentences, write_bytes

FILM_BYTES = 60_000
"""What a film may weigh; a page with a dozen of them opens at once."""

_WIDTH = 480
_QUALITIES = (22, 26, 30, 34, 38, 44)  # of H.264, lower is better; the first that fits is taken
_STILL_QUALITY = 75
_HOLD_S = 1.0  # the last picture stands still, so that a film in a loop shows how it ended
_BORDER = 4
_SUCCESS_RGB = (0, 158, 115)  # Okabe and Ito's (2008) bluish green, away from every block's colour
_DEFAULT_FPS = 10  # Gymnasium's metadata need not name a rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A film of one episode, from its first to its last observation.

    Attributes:
        mp4: H.264 with halved colours (yuv420p), which every browser plays; at the control rate.
        still: the first picture, as JPEG.
    """

    mp4: bytes
    still: bytes


@contextmanager
def rendering_env(env_id: str) -> Generator[AnyEnv | None, None, None]:
    """Give one env that takes pictures for people; None, by design, where it draws none.

    None as well where the env is registered as nondeterministic, such as a real robot: it would
    not repeat what it did, and it must not move unasked.

    Raises:
        EnvError: the env cannot be made.
    """
    register_envs()
    env = _made(env_id)
    try:
        yield env
    finally:
        if env is not None:
            env.close()


def _made(env_id: str) -> AnyEnv | None:
    with making(env_id):
        if gymnasium.spec(env_id).nondeterministic:
            return None
        plain = gymnasium.make(env_id, disable_env_checker=True)
        can_render = "rgb_array" in (plain.metadata.get("render_modes") or ())
        plain.close()
        if not can_render:
            return None
        return gymnasium.make(env_id, render_mode="rgb_array", disable_env_checker=True)


def replay(
    env: AnyEnv,
    seed: int,
    actions: Float32[Array, "steps action"],
    agent_pos: Float32[Array, "obs joints"],
    chunking: Chunking = PLAIN,
) -> Iterator[UInt8[Array, "h w 3"]]:
    """Go through the pictures of a recorded episode, from its first to its last observation.

    Args:
        env: made with `rendering_env`.
        seed: that the episode's start was drawn with.
        actions: as recorded.
        agent_pos: as recorded; one more than actions.
        chunking: what each of these actions is made of; there is a picture a control step.

    Raises:
        EnvError: the env does not repeat the recorded path bit for bit, draws no RGB pictures, or
            fails.
    """
    name = env_name(env)
    with running(name, "reset", [seed]):
        raw, _ = env.reset(seed=seed)
    _check_repeats(raw, agent_pos[0], seed, step=0)
    yield _picture(env)
    for step, decision in enumerate(actions):
        for action in split_decisions(chunking, decision, agent_pos[step]):
            with running(name, "step", [seed]):
                raw, _, terminated, truncated, _ = env.step(action)
            yield _picture(env)
            if terminated or truncated:
                break  # as the fleet does: the rest of the chunk is not executed
        _check_repeats(raw, agent_pos[step + 1], seed, step + 1)


def film(pictures: Iterable[UInt8[Array, "h w 3"]], fps: int, *, success: bool) -> Film:
    """Return pictures as a small film; after a success its last picture stands in a green frame.

    Args:
        pictures: of any size, but all of one; they are made small one by one.
        fps: control steps a second, so that the film runs as fast as the robot did.
        success: whether the episode ended with the instruction fulfilled.
    """
    small = np.stack([_shrunk(one) for one in pictures])
    still = io.BytesIO()
    Image.fromarray(small[0]).save(still, "JPEG", quality=_STILL_QUALITY)
    last = _framed(small[-1]) if success else small[-1]
    held = np.repeat(last[None], max(1, round(_HOLD_S * fps)), axis=0)
    return Film(mp4=_encoded(np.concatenate([small, held]), fps), still=still.getvalue())


def film_rate(env: AnyEnv) -> int:
    """Return the control steps a second that an env names: `control_hz`, or its `render_fps`."""
    named = control_rate(env.unwrapped) or env.metadata.get("render_fps")
    return max(1, round(named or _DEFAULT_FPS))


def films(env_id: str, episodes: Sequence[Episode], chunking: Chunking = PLAIN) -> Iterator[Film]:
    """Go through episodes as films; nothing, by design, where the env draws no pictures.

    Raises:
        EnvError: the env cannot be made, or does not repeat an episode.
    """
    with rendering_env(env_id) as env:
        for episode in episodes if env else ():
            assert env is not None, "there are no episodes without an env"
            recorded = episode.observations.agent_pos
            pictures = replay(env, episode.seed, episode.actions, recorded, chunking)
            success = episode.ended is Ended.SUCCESS_TRUE
            yield film(pictures, film_rate(env), success=success)


def write_film(one: Film, folder: Path, index: int) -> None:
    """Write a film as INDEX.mp4 and its still as INDEX.jpg.

    Raises:
        ConfigError: the folder cannot be written.
    """
    write_bytes(folder / f"{index}.jpg", one.still)
    write_bytes(folder / f"{index}.mp4", one.mp4)


def remove_films(folder: Path) -> None:
    """Remove the films of an earlier evaluation, which would be taken for the new one's.

    Raises:
        ConfigError: the folder cannot be written.
    """
    with disk_errors_as_sentences(folder):
        for path in (*folder.glob("*.mp4"), *folder.glob("*.jpg")):
            path.unlink()


def _check_repeats(raw: Any, recorded: Float32[Array, "joints"], seed: int, step: int) -> None:
    """Raise EnvError unless the env is where it was when the episode was recorded."""
    if not recorded.size:
        return  # an env without proprioception: nothing was recorded to compare with
    replayed = np.asarray(raw["agent_pos"], np.float32).ravel()
    if not np.array_equal(replayed, recorded):
        raise EnvError(
            f"a replay must repeat the recorded episode bit for bit, got agent_pos {replayed} at "
            f"step {step} of seed {seed} in place of {recorded}; draw all of the env's randomness "
            "from the seed of its reset, or evaluate with --videos 0"
        )


def _picture(env: AnyEnv) -> UInt8[Array, "h w 3"]:
    with running(env_name(env), "render"):
        picture = np.asarray(cast(Any, env.render()))
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
        raise EnvError(
            "render() must return an RGB picture of bytes (height, width, 3), got "
            f"{picture.dtype} of shape {picture.shape}; mend the env's rgb_array mode, or evaluate "
            "with --videos 0"
        )
    return picture


def _shrunk(picture: UInt8[Array, "h w 3"]) -> UInt8[Array, "_ _ 3"]:
    """Return a picture at most _WIDTH wide, with even sides, as halved colours need."""
    height, width = picture.shape[:2]
    scale = min(1.0, _WIDTH / width)
    return np.asarray(
        Image.fromarray(picture).resize((_even(width * scale), _even(height * scale)))
    )


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))


def _framed(picture: UInt8[Array, "h w 3"]) -> UInt8[Array, "h w 3"]:
    framed = np.empty_like(picture)
    framed[:] = _SUCCESS_RGB
    inside = slice(_BORDER, -_BORDER)
    framed[inside, inside] = picture[inside, inside]
    return framed


def _encoded(frames: UInt8[Array, "obs h w 3"], fps: int) -> bytes:
    """Return a film in the best quality that is light enough, or in the last one."""
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
        if len(mp4) <= FILM_BYTES:
            break
    return mp4
