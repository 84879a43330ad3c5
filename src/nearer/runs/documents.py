"""The small files of a run as frozen dataclasses; what measures it is in evaluation/.

    run.json              RunHeader: what was asked, on which code, on which data and weights
    encoding.json         EncodingTime: seconds of the vision encoder before the first update
    trackers.json         TrackerIds: the run's ids in the trackers of --track
    demonstrations.json   Demonstrations: the first held-out ones, as the report draws them
    eval/rollouts.json    Rollouts: the first episodes of an evaluation, as the report draws them

A run's config stands in run.json as JSON; configs/ makes a typed config of it. Who may not import
configs reads the settings that it needs with `header.part(KIND)`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar, cast

from nearer.algorithm.early_stopping import AlarmStop
from nearer.core.errors import ConfigError
from nearer.runs.files import disk_errors_as_sentences
from nearer.runs.json_files import (
    UnexpectedJson,
    document_of,
    from_json,
    read_document,
    read_json_object,
    require,
    write_document,
)

FORMAT = 2
"""Of a run's files. Raise it when older runs can no longer be read or continued."""
HEADER, ENCODING, TRACKERS = "run.json", "encoding.json", "trackers.json"
DEMONSTRATIONS, ROLLOUTS = "demonstrations.json", "rollouts.json"

_NEW_RUN = "start a new run, or use that version"
_NAME_A_RUN = "name the folder that --out named, or start the run without --resume"

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInputs:
    """What a run started from, which must be the same when it is continued; None: it has no such.

    Attributes:
        data_sha256: hash of the demonstrations.
        frozen_sha256: hash of the frozen reward model.
        threshold_steps: s of the success detector, in the reward model's own steps.
    """

    data_sha256: str | None = None
    frozen_sha256: str | None = None
    threshold_steps: float | None = None

    def check_same(self, root: Path, now: "RunInputs") -> None:
        """Raise ConfigError unless a run that started from these finds the same `now`."""
        for name in self.__dataclass_fields__:
            before, after = getattr(self, name), getattr(now, name)
            if before != after:
                raise ConfigError(
                    f"{name} must be {before}, as {root}/run.json says, got {after}; "
                    "restore what the run started from, or start a new run with another --out"
                )


NO_INPUTS = RunInputs()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHeader:
    """run.json: what was asked, on which code, and what the run started from.

    Attributes:
        format: of the run's files, FORMAT.
        command: of nearer that makes the run: sft or improve.
        config: every setting, as JSON values.
        git_revision: of the code; + for uncommitted changes.
        versions: package -> version, nearer's own among them.
        created: date and time, ISO 8601.
        alarm: how an alarm of the audits ended Stage 2; None: none did.
    """

    format: int
    command: str
    config: Mapping[str, object]
    git_revision: str
    versions: Mapping[str, str]
    created: str
    inputs: RunInputs = NO_INPUTS
    alarm: AlarmStop | None = None

    def part(self, kind: type[Part], root: Path) -> Part:
        """Return some of the run's settings.

        Args:
            kind: a frozen dataclass with the settings that are wanted, named as in the config.
            root: the run's folder, for the sentence.

        Raises:
            ConfigError: the config has no such settings.
        """
        try:
            return from_json(kind, self.config, partly=True)
        except UnexpectedJson as error:
            raise ConfigError(
                f"{root}/run.json must hold a config with {error.key} {error.expected}, got "
                f"{error.got}; restore it, or start a new run"
            ) from error


def read_header(root: Path) -> RunHeader:
    """Return run.json of a run.

    Raises:
        ConfigError: no run is there, or one of another format: the sentence names the version of
            nearer that made it.
    """
    path = root / HEADER
    document = read_json_object(path, _NAME_A_RUN)
    if document.get("format") != FORMAT:
        raise ConfigError(
            f"{root} must be a run whose files have format {FORMAT}, got one that was made by "
            f"nearer {_version_in(document)}, with format {document.get('format')}; {_NEW_RUN}"
        )
    header = document_of(RunHeader, document, path, "restore it, or start a new run")
    return replace(header, config=_moved(header.config, root))


def collecting_policy(data: Path) -> str | None:
    """Return the policy whose episodes a data set holds; None: it holds demonstrations.

    Args:
        data: folder of a data set, of `nearer collect` or of anybody.
    """
    if not (data / HEADER).exists():
        return None
    config = read_json_object(data / HEADER, _NAME_A_RUN).get("config")
    policy = cast(Mapping[str, object], config).get("policy") if isinstance(config, dict) else None
    return policy if isinstance(policy, str) else None


def _moved(config: Mapping[str, object], root: Path) -> Mapping[str, object]:
    """Return a run's config with the paths of things that have moved together with the run.

    They are as far from the run's folder as they were from the one that the config names.
    """
    out = config.get("out")
    if not isinstance(out, str) or not os.path.isabs(out) or Path(out) == root.absolute():
        return config
    return {name: _moved_path(value, Path(out), root) for name, value in config.items()}


def _moved_path(value: object, out: Path, root: Path) -> object:
    if not isinstance(value, str) or not os.path.isabs(value) or os.path.exists(value):
        return value
    now = os.path.normpath(root.absolute() / os.path.relpath(value, out))
    return now if os.path.exists(now) else value


def write_header(root: Path, header: RunHeader) -> None:
    """Write run.json."""
    write_document(root / HEADER, header)


def _version_in(document: Mapping[str, object]) -> str:
    versions = document.get("versions")
    named = cast(dict[str, object], versions) if isinstance(versions, dict) else {}
    return str(named.get("nearer", "(unknown)"))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingTime:
    """encoding.json: wall-clock seconds that the vision encoder took before the first update.

    It encoded the demonstrations, and learned from them first if it can.
    """

    seconds: float


def read_encoding_time(root: Path) -> EncodingTime | None:
    """Return encoding.json of a run; None where the model has no vision encoder."""
    path = root / ENCODING
    return read_document(EncodingTime, path, "delete it") if path.exists() else None


def write_encoding_time(root: Path, time: EncodingTime) -> None:
    """Write encoding.json."""
    write_document(root / ENCODING, time)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerIds:
    """trackers.json: tracker -> id of the run there, so that a resumed run is the same one."""

    ids: Mapping[str, str] = field(default_factory=dict[str, str])


def read_tracker_ids(root: Path) -> TrackerIds:
    """Return trackers.json of a run; without ids before the first tracker was opened."""
    path = root / TRACKERS
    advice = "delete it, and the trackers start runs of their own"
    return read_document(TrackerIds, path, advice) if path.exists() else TrackerIds()


def write_tracker_ids(root: Path, ids: TrackerIds) -> None:
    """Write trackers.json."""
    write_document(root / TRACKERS, ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnEpisode:
    """An episode as the report draws or replays it, a row a decision.

    Attributes:
        ended: how, as core/episode.py names it.
        chunk: control steps from one row to the next.
        seed: of the env's reset; None: nobody knows, as of a demonstration.
        actions: between the rows; None: they are not drawn.
    """

    agent_pos: tuple[tuple[float, ...], ...]
    environment_state: tuple[tuple[float, ...], ...]
    ended: str
    instruction: str
    chunk: int = 1
    seed: int | None = None
    actions: tuple[tuple[float, ...], ...] | None = None

    def __post_init__(self) -> None:
        """Refuse rows that are no matrices, or not of the same observations."""
        for name in ("agent_pos", "environment_state", "actions"):
            widths = {len(row) for row in getattr(self, name) or ()}
            require(len(widths) <= 1, f"the rows of {name} must be equally long", tuple(widths))
        rows = len(self.agent_pos), len(self.environment_state)
        require(rows[0] == rows[1] > 0, "agent_pos must have as many rows as the state", rows)
        require(self.chunk >= 1, "chunk must be 1 or more", self.chunk)
        require(self.seed is None or self.seed >= 0, "seed must be 0 or more", self.seed)
        actions = len(self.actions) if self.actions is not None else rows[0] - 1
        require(actions == rows[0] - 1, "actions must be one fewer than observations", actions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstrations:
    """demonstrations.json: the first held-out demonstrations of a Stage-1 run."""

    episodes: tuple[DrawnEpisode, ...]


def read_demonstrations(root: Path) -> Demonstrations | None:
    """Return demonstrations.json of a run; None before training has ended."""
    path = root / DEMONSTRATIONS
    advice = "continue the run with nearer sft --resume, or delete the file"
    return read_document(Demonstrations, path, advice) if path.exists() else None


def write_demonstrations(root: Path, demonstrations: Demonstrations) -> None:
    """Write demonstrations.json."""
    write_document(root / DEMONSTRATIONS, demonstrations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """rollouts.json: the first episodes of an evaluation, in the order of its seeds."""

    env: str
    episodes: tuple[DrawnEpisode, ...]


def read_rollouts(folder: Path) -> Rollouts | None:
    """Return rollouts.json of an evaluation's folder; None if it has none."""
    path = folder / ROLLOUTS
    advice = "evaluate again with nearer eval, or delete the file"
    return read_document(Rollouts, path, advice) if path.exists() else None


def remove_rollouts(folder: Path) -> None:
    """Remove rollouts.json of an earlier evaluation, which would be taken for those of a new one.

    Raises:
        ConfigError: the folder cannot be written.
    """
    with disk_errors_as_sentences(folder):
        (folder / ROLLOUTS).unlink(missing_ok=True)


def write_rollouts(folder: Path, rollouts: Rollouts) -> None:
    """Write rollouts.json."""
    write_document(folder / ROLLOUTS, rollouts)
