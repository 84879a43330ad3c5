"""Episodes as a rerun recording: what the robot saw and did beside its steps-to-go distribution.

    episode_000012/instruction              text
                   cameras/NAME             pictures, if the data set has them
                   state, environment_state, action     numbers over time, in the env's units
                   steps_to_go/mean, p10, p50, p90      control steps, d and its quantiles
                   distribution             p(k | o_t, g) as bars over k, if a model says it now
                   reward                   r_t = d_t - d_{t+1}, control steps
                   success_detected         1 where d <= s

Timelines: frame (of the episode) and seconds. Episodes of a policy that practised in chunks of
control steps have a frame a decision, and their steps-to-go count these. rerun is an extra that is
imported when it is needed.
"""

import io
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from PIL import Image

from nearer.algorithm.model import FoundationModel
from nearer.algorithm.score import frame_probabilities
from nearer.algorithm.steps_to_go import expected_steps, is_solved, progress_rewards, quantile_steps
from nearer.core.arrays import Array
from nearer.core.callbacks import Progress, ProgressCallback, ignore_progress
from nearer.core.errors import CheckpointError, ConfigError
from nearer.datasets.caching.results import digest_of
from nearer.datasets.demonstration_loading import load_demonstrations
from nearer.datasets.episodes import (
    AGENT_POS,
    ENVIRONMENT_STATE,
    dataset_spaces,
)
from nearer.datasets.lerobot.cameras import camera_key, cameras_of
from nearer.datasets.lerobot.identity import contents_hash
from nearer.datasets.lerobot.reader import Dataset
from nearer.runs.files import disk_errors_as_sentences, whole_file

_QUANTILES = ("p10", "p50", "p90")
_JPEG_QUALITY = 90
_PICTURES_AT_ONCE = 64  # decoded together; bounds the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a frozen model says of the frames of an episode.

    Attributes:
        steps_to_go: d(o_t, g), in control steps.
        quantiles: 10 %, 50 % and 90 % quantiles of p(k | o_t, g), in control steps.
        rewards: r_t, in control steps; there is none of the last frame.
        solved: d <= s; None: no threshold is known.
        distribution: p(k | o_t, g) over the bins; None: practice keeps its quantiles alone.
        edges: lower edges of the bins, in control steps.
    """

    steps_to_go: Float32[Array, "frames"]
    quantiles: Float32[Array, "frames 3"]
    rewards: Float32[Array, "steps"]
    solved: Bool[Array, "frames"] | None
    distribution: Float32[Array, "frames bins"] | None = None
    edges: Float32[Array, "bins"] | None = None


def judged_when_practised(dataset: Dataset, progress: Mapping[str, Array]) -> dict[int, Judged]:
    """Return, by episode, what was recorded beside the frames; episodes without it are left out.

    Args:
        dataset: practised episodes.
        progress: as `read_progress` returned it.
    """
    known = {int(index): row for row, index in enumerate(progress["index"])}
    indices: list[int] = dataset.columns["index"].tolist()
    row_of = np.array([known.get(index, -1) for index in indices])
    found: dict[int, Judged] = {}
    for episode in range(len(dataset.episode_lengths)):
        rows = row_of[_frames(dataset, episode)]
        if (rows >= 0).all():
            found[episode] = Judged(
                steps_to_go=progress["steps_to_go"][rows].astype(np.float32),
                quantiles=progress["quantiles"][rows].astype(np.float32),
                rewards=progress["reward"][rows][:-1].astype(np.float32),
                solved=progress["success_detected"][rows].astype(bool),
            )
    return found


def judged_by(
    model: FoundationModel,
    dataset: Dataset,
    episodes: Sequence[int],
    threshold_steps: float | None,
    on_progress: ProgressCallback = ignore_progress,
) -> dict[int, Judged]:
    """Return, by episode, what a model says now of a data set's frames.

    Args:
        model: answers the steps-to-go question.
        dataset: whose episodes.
        episodes: rows.
        threshold_steps: s of the success detector, in the model's own steps; None: not known.
        on_progress: sees the progress of looking at pictures.

    Raises:
        CheckpointError: the model was made for other sizes.
        DatasetError: the data set lacks what the model reads.
    """
    _check_fits(model, dataset)
    data = load_demonstrations(
        dataset, model.vision_encoder, np.asarray(episodes), on_progress=on_progress
    )
    probabilities = frame_probabilities(model, data)
    lengths: list[int] = data.episode_lengths.tolist()
    chunk = model.spaces.chunking.chunk  # a row is a control step here, and so is d
    d, quantiles = (chunk * f(probabilities, model.bins) for f in (expected_steps, quantile_steps))
    parts = [torch.split(one, lengths) for one in (d, quantiles, probabilities)]
    limit = None if threshold_steps is None else chunk * threshold_steps
    return {
        episode: Judged(
            steps_to_go=d.numpy(),
            quantiles=spread.numpy(),
            rewards=progress_rewards(d).numpy(),
            solved=None if limit is None else is_solved(d, limit).numpy(),
            distribution=likely.numpy(),
            edges=(chunk * model.bins.edges()).numpy(),
        )
        for episode, d, spread, likely in zip(episodes, *parts, strict=True)
    }


def check_rerun() -> None:
    """Raise ConfigError unless rerun is installed."""
    _rerun()


def write_recording(
    path: Path,
    dataset: Dataset,
    episodes: Sequence[int],
    judged: Mapping[int, Judged],
    on_progress: ProgressCallback = ignore_progress,
) -> None:
    """Write episodes as one rerun recording, whole or not at all.

    Args:
        path: file that ends in .rrd; one that is there is replaced.
        dataset: whose episodes.
        episodes: rows.
        judged: what a model says, by episode; may lack some.
        on_progress: sees the progress.

    Raises:
        ConfigError: rerun is not installed.
        DatasetError: a picture is missing or damaged.
        NearerError: the disk does not take it.
    """
    rr = _rerun()
    with disk_errors_as_sentences(path), _as_disk_errors(), whole_file(path) as temporary:
        recording = rr.RecordingStream("nearer", recording_id=_identity(dataset, judged))
        place = dataset.root.absolute()
        recording.send_recording_name(f"{place.parent.name}/{place.name}")
        cameras = [camera.name for camera in cameras_of(dataset)]
        recording.save(temporary, _blueprint(rr, episodes, cameras, judged))
        for number, episode in enumerate(episodes):
            _log_episode(rr, recording, dataset, episode, judged.get(episode))
            on_progress(Progress(stage="episodes", done=number + 1, total=len(episodes)))
        recording.flush()
        recording.disconnect()


def _identity(dataset: Dataset, judged: Mapping[int, Judged]) -> str:
    """Name a recording by what is in it: a viewer shows two of one name as one."""
    said = digest_of(one.steps_to_go for one in judged.values())
    return f"{contents_hash(dataset)[:16]}-{said[:16]}"


@contextmanager
def _as_disk_errors() -> Generator[None, None, None]:
    """Let what rerun raises where it cannot write be an error of the disk."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(str(error)) from error


def entity_of(episode: int) -> str:
    """Return the entity that holds an episode."""
    return f"episode_{episode:06d}"


def _log_episode(
    rr: Any, recording: Any, dataset: Dataset, episode: int, judged: Judged | None
) -> None:
    rows, root = _frames(dataset, episode), entity_of(episode)
    fps = dataset.info.fps
    for name, key in (("state", AGENT_POS), ("environment_state", ENVIRONMENT_STATE)):
        if key in dataset.columns:
            _log_numbers(rr, recording, f"{root}/{name}", fps, dataset, key, rows)
    # The last frame's action was never taken.
    _log_numbers(rr, recording, f"{root}/action", fps, dataset, "action", rows[:-1])
    task = rr.TextDocument(dataset.task_of_episode(episode), media_type="text/plain")
    recording.log(f"{root}/instruction", task, static=True, strict=True)
    if judged is not None:
        series = {"steps_to_go/mean": judged.steps_to_go, "reward": judged.rewards}
        for column, name in enumerate(_QUANTILES):
            series[f"steps_to_go/{name}"] = judged.quantiles[:, column]
        if judged.solved is not None:
            series["success_detected"] = judged.solved
        for name, values in series.items():
            columns = rr.Scalars.columns(scalars=values.astype(np.float64))
            _send(rr, recording, f"{root}/{name}", fps, 0, len(values), columns)
        _log_distribution(rr, recording, f"{root}/distribution", fps, judged)
    for camera in cameras_of(dataset):
        _log_pictures(rr, recording, dataset, camera.name, root, rows)


def _log_distribution(rr: Any, recording: Any, entity: str, fps: int, judged: Judged) -> None:
    if judged.distribution is None:
        return
    rows = len(judged.distribution)
    bars = {"values": [*judged.distribution], "abscissa": [judged.edges] * rows}
    columns = rr.BarChart.columns(**{name: _tensors(rr, one) for name, one in bars.items()})
    _send(rr, recording, entity, fps, 0, rows, columns)


def _tensors(rr: Any, values: Sequence[Any]) -> Any:
    """Return one tensor a row, for which rerun has no function."""
    arrays = [rr.components.TensorDataBatch(one).as_arrow_array() for one in values]
    return cast(Any, pa).concat_arrays(arrays)


def _log_numbers(
    rr: Any,
    recording: Any,
    entity: str,
    fps: int,
    dataset: Dataset,
    key: str,
    rows: Int64[Array, "rows"],
) -> None:
    values = dataset.columns[key][rows].reshape(len(rows), -1).astype(np.float64)
    names = _names(dataset.info.features[key].names, values.shape[1])
    recording.log(entity, rr.SeriesLines(names=names), static=True, strict=True)
    columns = rr.Scalars.columns(scalars=values)
    _send(rr, recording, entity, fps, 0, len(rows), columns)


def _log_pictures(
    rr: Any, recording: Any, dataset: Dataset, camera: str, root: str, rows: Int64[Array, "rows"]
) -> None:
    key = camera_key(dataset, camera)
    entity = f"{root}/{_camera_entity(rr, camera)}"
    for first in range(0, len(rows), _PICTURES_AT_ONCE):
        pictures = dataset.frames(key, rows[first : first + _PICTURES_AT_ONCE])
        encoded = [_jpeg(picture) for picture in pictures]
        kinds = ["image/jpeg"] * len(encoded)
        columns = rr.EncodedImage.columns(blob=encoded, media_type=kinds)
        _send(rr, recording, entity, dataset.info.fps, first, len(encoded), columns)


def _send(
    rr: Any, recording: Any, entity: str, fps: int, first: int, length: int, columns: Any
) -> None:
    frames = np.arange(first, first + length)
    seconds = np.round(frames / fps * 1e9).astype("timedelta64[ns]")
    times = [rr.TimeColumn("frame", sequence=frames), rr.TimeColumn("seconds", duration=seconds)]
    recording.send_columns(entity, indexes=times, columns=columns, strict=True)


def _blueprint(
    rr: Any, episodes: Sequence[int], cameras: Sequence[str], judged: Mapping[int, Judged]
) -> Any:
    """Return how the viewer shows it at first: a tab an episode, pictures left, curves right."""
    rrb = rr.blueprint
    tabs: list[Any] = []
    for episode in episodes:
        root = entity_of(episode)
        seen = [rrb.TextDocumentView(origin=f"{root}/instruction", name="instruction")]
        for camera in cameras:
            entity = f"{root}/{_camera_entity(rr, camera)}"
            seen.append(rrb.Spatial2DView(origin=entity, name=camera))
        names = ["steps_to_go", "reward", "success_detected"] if episode in judged else []
        if episode in judged and judged[episode].distribution is not None:
            seen.append(rrb.BarChartView(origin=f"{root}/distribution", name="p(steps to go)"))
        curves = [
            rrb.TimeSeriesView(origin=f"{root}/{name}", name=name.replace("_", " "))
            for name in (*names, "action", "state")
        ]
        shares = [1, *[4] * (len(seen) - 1)]
        left = rrb.Vertical(*seen, row_shares=shares)
        tabs.append(rrb.Horizontal(left, rrb.Vertical(*curves), name=f"episode {episode}"))
    return rrb.Blueprint(rrb.Tabs(*tabs))


def _camera_entity(rr: Any, camera: str) -> str:
    # A camera's name comes from a file; rerun escapes what would be a path of its own.
    return str(rr.new_entity_path(["cameras", camera])).lstrip("/")


def _names(names: Any, width: int) -> list[str]:
    """Return a name an axis: the data set's, if it has as many."""
    if isinstance(names, list) and len(cast(list[Any], names)) == width:
        return [str(name) for name in cast(list[Any], names)]
    return [str(axis) for axis in range(width)]


def _jpeg(picture: UInt8[Array, "h w 3"]) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(picture).save(file, "JPEG", quality=_JPEG_QUALITY)
        return file.getvalue()


def _frames(dataset: Dataset, episode: int) -> Int64[Array, "rows"]:
    start = int(dataset.episode_starts[episode])
    return np.arange(start, start + int(dataset.episode_lengths[episode]))


def _check_fits(model: FoundationModel, dataset: Dataset) -> None:
    offered, needed = dataset_spaces(dataset), model.spaces
    sizes = [(one.agent_pos, one.environment_state) for one in (offered, needed)]
    missing = [camera for camera in needed.cameras if camera not in offered.cameras]
    other_rate = needed.control_hz and offered.control_hz != needed.control_hz
    if sizes[0] != sizes[1] or missing or other_rate:
        raise CheckpointError(
            f"--model must be of a run on data of these sizes, {offered}, got one for {needed}; "
            "name the run that learned from such data"
        )


def _rerun() -> Any:
    try:
        import_module("rerun.blueprint")
        return cast(Any, import_module("rerun"))
    except ImportError as error:
        raise ConfigError(
            f"nearer export must have the package rerun-sdk, got: {error}; run pip install "
            "'nearer[rerun]'"
        ) from error
