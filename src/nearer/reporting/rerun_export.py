"""Episodes as a rerun recording: observations and actions beside the predicted steps-to-go.

    episode_000012/instruction              text
                   cameras/NAME             images, if the data set has them
                   state, environment_state, action     numbers over time, in the env's units
                   steps_to_go/mean, p10, p50, p90      control steps, d and its quantiles
                   distribution             p(k | o_t, g) as bars over k, of a model given now
                   reward                   r_t = d_t - d_{t+1}, control steps
                   success_detected         1 where d <= s

Timelines: frame (of the episode) and seconds. Where a policy practised with action chunks, a frame
is a decision and steps-to-go count decisions. rerun is an optional dependency that is imported when
it is needed.
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
_IMAGES_AT_ONCE = 64  # decoded together; bounds the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePredictions:
    """What a frozen reward model predicts for the frames of an episode.

    Attributes:
        steps_to_go: d(o_t, g), in control steps.
        quantiles: 10 %, 50 % and 90 % quantiles of p(k | o_t, g), in control steps.
        rewards: r_t, in control steps; the last frame has none.
        solved: d <= s; None where no threshold s is known.
        distribution: p(k | o_t, g) over the bins; None for practised episodes, which keep only its
            quantiles.
        edges: lower edges of the bins, in control steps.
    """

    steps_to_go: Float32[Array, "frames"]
    quantiles: Float32[Array, "frames 3"]
    rewards: Float32[Array, "steps"]
    solved: Bool[Array, "frames"] | None
    distribution: Float32[Array, "frames bins"] | None = None
    edges: Float32[Array, "bins"] | None = None


def recorded_predictions(
    dataset: Dataset, progress: Mapping[str, Array]
) -> dict[int, FramePredictions]:
    """Return, by episode, the predictions kept in practice; episodes without them are left out.

    Args:
        dataset: practised episodes.
        progress: as `read_progress` returned it.
    """
    row_by_index = {int(index): row for row, index in enumerate(progress["index"])}
    indices: list[int] = dataset.columns["index"].tolist()
    progress_rows = np.array([row_by_index.get(index, -1) for index in indices])
    predictions: dict[int, FramePredictions] = {}
    for episode in range(len(dataset.episode_lengths)):
        rows = progress_rows[_frames(dataset, episode)]
        if (rows >= 0).all():
            predictions[episode] = FramePredictions(
                steps_to_go=progress["steps_to_go"][rows].astype(np.float32),
                quantiles=progress["quantiles"][rows].astype(np.float32),
                rewards=progress["reward"][rows][:-1].astype(np.float32),
                solved=progress["success_detected"][rows].astype(bool),
            )
    return predictions


def model_predictions(
    model: FoundationModel,
    dataset: Dataset,
    episodes: Sequence[int],
    threshold_steps: float | None,
    on_progress: ProgressCallback = ignore_progress,
) -> dict[int, FramePredictions]:
    """Return, by episode, what a reward model predicts for the frames of a data set.

    Args:
        model: predicts steps-to-go.
        dataset: whose episodes.
        episodes: rows.
        threshold_steps: s of the success detector, in decisions of the model; None: unknown.
        on_progress: receives the progress of encoding images.

    Raises:
        CheckpointError: the model was made for observations of other sizes.
        DatasetError: the data set lacks what the model reads.
    """
    _check_fits(model, dataset)
    data = load_demonstrations(
        dataset, model.vision_encoder, np.asarray(episodes), on_progress=on_progress
    )
    probabilities = frame_probabilities(model, data)
    lengths: list[int] = data.episode_lengths.tolist()
    chunk = model.spaces.chunking.chunk  # from decisions to control steps, of which a row is one
    d, quantiles = (chunk * f(probabilities, model.bins) for f in (expected_steps, quantile_steps))
    parts = [torch.split(values, lengths) for values in (d, quantiles, probabilities)]
    threshold = None if threshold_steps is None else chunk * threshold_steps
    return {
        episode: FramePredictions(
            steps_to_go=d.numpy(),
            quantiles=episode_quantiles.numpy(),
            rewards=progress_rewards(d).numpy(),
            solved=None if threshold is None else is_solved(d, threshold).numpy(),
            distribution=distribution.numpy(),
            edges=(chunk * model.bins.edges()).numpy(),
        )
        for episode, d, episode_quantiles, distribution in zip(episodes, *parts, strict=True)
    }


def check_rerun() -> None:
    """Raise ConfigError unless rerun is installed."""
    _rerun()


def write_recording(
    path: Path,
    dataset: Dataset,
    episodes: Sequence[int],
    predictions: Mapping[int, FramePredictions],
    on_progress: ProgressCallback = ignore_progress,
) -> None:
    """Write episodes as one rerun recording, whole or not at all.

    Args:
        path: file that ends in .rrd; one that is there is replaced.
        dataset: whose episodes.
        episodes: rows.
        predictions: of the reward model, by episode; may lack some.
        on_progress: receives the progress.

    Raises:
        ConfigError: rerun is not installed.
        DatasetError: an image is missing or damaged.
        NearerError: the file cannot be written.
    """
    rr = _rerun()
    with disk_errors_as_sentences(path), _as_disk_errors(), whole_file(path) as temporary:
        recording = rr.RecordingStream("nearer", recording_id=_identity(dataset, predictions))
        place = dataset.root.absolute()
        recording.send_recording_name(f"{place.parent.name}/{place.name}")
        cameras = [camera.name for camera in cameras_of(dataset)]
        recording.save(temporary, _blueprint(rr, episodes, cameras, predictions))
        for number, episode in enumerate(episodes):
            _log_episode(rr, recording, dataset, episode, predictions.get(episode))
            on_progress(Progress(stage="episodes", done=number + 1, total=len(episodes)))
        recording.flush()
        recording.disconnect()


def _identity(dataset: Dataset, predictions: Mapping[int, FramePredictions]) -> str:
    """Return an id made of the content: a viewer merges two recordings of one id."""
    digest = digest_of(frames.steps_to_go for frames in predictions.values())
    return f"{contents_hash(dataset)[:16]}-{digest[:16]}"


@contextmanager
def _as_disk_errors() -> Generator[None, None, None]:
    """Raise OSError where rerun raises a RuntimeError because it cannot write."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(str(error)) from error


def entity_of(episode: int) -> str:
    """Return the rerun entity path of an episode."""
    return f"episode_{episode:06d}"


def _log_episode(
    rr: Any, recording: Any, dataset: Dataset, episode: int, predictions: FramePredictions | None
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
    if predictions is not None:
        series = {"steps_to_go/mean": predictions.steps_to_go, "reward": predictions.rewards}
        for column, name in enumerate(_QUANTILES):
            series[f"steps_to_go/{name}"] = predictions.quantiles[:, column]
        if predictions.solved is not None:
            series["success_detected"] = predictions.solved
        for name, values in series.items():
            columns = rr.Scalars.columns(scalars=values.astype(np.float64))
            _send(rr, recording, f"{root}/{name}", fps, 0, len(values), columns)
        _log_distribution(rr, recording, f"{root}/distribution", fps, predictions)
    for camera in cameras_of(dataset):
        _log_images(rr, recording, dataset, camera.name, root, rows)


def _log_distribution(
    rr: Any, recording: Any, entity: str, fps: float, predictions: FramePredictions
) -> None:
    if predictions.distribution is None:
        return
    rows = len(predictions.distribution)
    bars = {"values": [*predictions.distribution], "abscissa": [predictions.edges] * rows}
    columns = rr.BarChart.columns(**{name: _tensors(rr, rows_of) for name, rows_of in bars.items()})
    _send(rr, recording, entity, fps, 0, rows, columns)


def _tensors(rr: Any, values: Sequence[Any]) -> Any:
    """Return a column with one tensor a row, which rerun has no function for."""
    arrays = [rr.components.TensorDataBatch(row).as_arrow_array() for row in values]
    return cast(Any, pa).concat_arrays(arrays)


def _log_numbers(
    rr: Any,
    recording: Any,
    entity: str,
    fps: float,
    dataset: Dataset,
    key: str,
    rows: Int64[Array, "rows"],
) -> None:
    values = dataset.columns[key][rows].reshape(len(rows), -1).astype(np.float64)
    names = _names(dataset.info.features[key].names, values.shape[1])
    recording.log(entity, rr.SeriesLines(names=names), static=True, strict=True)
    columns = rr.Scalars.columns(scalars=values)
    _send(rr, recording, entity, fps, 0, len(rows), columns)


def _log_images(
    rr: Any, recording: Any, dataset: Dataset, camera: str, root: str, rows: Int64[Array, "rows"]
) -> None:
    key = camera_key(dataset, camera)
    entity = f"{root}/{_camera_entity(rr, camera)}"
    for first in range(0, len(rows), _IMAGES_AT_ONCE):
        images = dataset.frames(key, rows[first : first + _IMAGES_AT_ONCE])
        encoded = [_jpeg(image) for image in images]
        media_types = ["image/jpeg"] * len(encoded)
        columns = rr.EncodedImage.columns(blob=encoded, media_type=media_types)
        _send(rr, recording, entity, dataset.info.fps, first, len(encoded), columns)


def _send(
    rr: Any, recording: Any, entity: str, fps: float, first: int, length: int, columns: Any
) -> None:
    frames = np.arange(first, first + length)
    seconds = np.round(frames / fps * 1e9).astype("timedelta64[ns]")
    times = [rr.TimeColumn("frame", sequence=frames), rr.TimeColumn("seconds", duration=seconds)]
    recording.send_columns(entity, indexes=times, columns=columns, strict=True)


def _blueprint(
    rr: Any,
    episodes: Sequence[int],
    cameras: Sequence[str],
    predictions: Mapping[int, FramePredictions],
) -> Any:
    """Return the first layout of the viewer: a tab an episode, images left, curves right."""
    rrb = rr.blueprint
    tabs: list[Any] = []
    for episode in episodes:
        root = entity_of(episode)
        views = [rrb.TextDocumentView(origin=f"{root}/instruction", name="instruction")]
        for camera in cameras:
            entity = f"{root}/{_camera_entity(rr, camera)}"
            views.append(rrb.Spatial2DView(origin=entity, name=camera))
        names = ["steps_to_go", "reward", "success_detected"] if episode in predictions else []
        if episode in predictions and predictions[episode].distribution is not None:
            views.append(rrb.BarChartView(origin=f"{root}/distribution", name="p(steps to go)"))
        curves = [
            rrb.TimeSeriesView(origin=f"{root}/{name}", name=name.replace("_", " "))
            for name in (*names, "action", "state")
        ]
        heights = [1, *[4] * (len(views) - 1)]
        left = rrb.Vertical(*views, row_shares=heights)
        tabs.append(rrb.Horizontal(left, rrb.Vertical(*curves), name=f"episode {episode}"))
    return rrb.Blueprint(rrb.Tabs(*tabs))


def _camera_entity(rr: Any, camera: str) -> str:
    # A camera's name comes from a file: rerun escapes slashes and spaces in it.
    return str(rr.new_entity_path(["cameras", camera])).lstrip("/")


def _names(names: Any, width: int) -> list[str]:
    """Return a name an axis: the data set's, if it has as many."""
    if isinstance(names, list) and len(cast(list[Any], names)) == width:
        return [str(name) for name in cast(list[Any], names)]
    return [str(axis) for axis in range(width)]


def _jpeg(image: UInt8[Array, "h w 3"]) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(image).save(file, "JPEG", quality=_JPEG_QUALITY)
        return file.getvalue()


def _frames(dataset: Dataset, episode: int) -> Int64[Array, "rows"]:
    start = int(dataset.episode_starts[episode])
    return np.arange(start, start + int(dataset.episode_lengths[episode]))


def _check_fits(model: FoundationModel, dataset: Dataset) -> None:
    mismatch = dataset_spaces(dataset).mismatch(model.spaces, "--model", actions=False)
    if mismatch is not None:
        raise CheckpointError(
            f"{dataset.root} {mismatch.text}; name a run that was trained on such data"
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
