"""Action chunks: what a decision is made of, in training and on robots, from data set to film."""

import json
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nearer.algorithm.demonstrations import Demonstrations, chunked
from nearer.algorithm.improve_settings import Practice
from nearer.algorithm.rollout import actions_outside, collect
from nearer.cli import main
from nearer.core.action_chunks import PLAIN, Chunking
from nearer.core.arrays import Array
from nearer.core.chunk_actions import join_actions, split_decisions
from nearer.core.episode import EncodedObservation, Ended, Episode, Observation
from nearer.core.errors import ConfigError, EnvError
from nearer.core.interfaces import Decision, Policy, Rngs
from nearer.core.seeds import Purpose, episode_seeds
from nearer.core.spaces import Spaces
from nearer.datasets.demonstration_loading import load_demonstrations
from nearer.datasets.lerobot.reader import open_dataset
from nearer.datasets.practice_store import PracticeStore
from nearer.evaluation.ground_truth import NoTermination
from nearer.evaluation.reward_report import REWARD_REPORT, read_reward_report
from nearer.evaluation.success import evaluate
from nearer.fleets.chunked import ChunkedFleet, in_chunks
from nearer.fleets.encoded import encoded
from nearer.fleets.gym import SingleEnvFleet, make_fleet
from nearer.reporting.videos import rendering_env, replay
from nearer.runs.metrics import read_metrics
from nearer.testing import CountingFleet, check_fleet

POINT_MASS = "nearer/PointMass-v0"
ARM = "nearer-test/Arm-v0"
SPACES = Spaces(agent_pos=1, environment_state=0, action=1)
REACH = 0.1
Capture = pytest.CaptureFixture[str]


class Arm(gymnasium.Env[Any, Any]):
    """Two joints that go where they are told, 0.1 at most; it ends where both are at the goal."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = gymnasium.spaces.Dict(
        {
            "agent_pos": gymnasium.spaces.Box(-2, 2, (2,), np.float32),
            "environment_state": gymnasium.spaces.Box(-1, 1, (2,), np.float32),
        }
    )
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    control_hz = 10

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.num_steps = 0
        self._joints = self._goal = np.zeros(2, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._joints, self._goal = self.np_random.uniform(-1, 1, (2, 2)).astype(np.float32)
        self.num_steps = 0
        return self._observe(), {"is_success": False, "instruction": "reach"}

    def step(self, action: Any) -> Any:
        self.num_steps += 1
        self._joints = self._joints + np.clip(action - self._joints, -REACH, REACH)
        done = bool(np.abs(self._joints - self._goal).max() < REACH / 2)
        return self._observe(), 0.0, done, False, {"is_success": done}

    def render(self) -> Any:
        return np.full((16, 16, 3), self.num_steps, np.uint8)

    def demonstrator(self, num_robots: int) -> Policy:
        return Reacher()

    def _observe(self) -> dict[str, Array]:
        return {"agent_pos": self._joints.copy(), "environment_state": self._goal.copy()}


class Reacher:
    """Sends both joints towards the goal, 0.08 a control step."""

    def begin(self, robots: Array, rngs: Rngs) -> None: ...

    def act(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Array,
        rngs: Rngs,
    ) -> Decision:
        joints, goal = observation.agent_pos, observation.environment_state
        actions = joints + np.clip(goal - joints, -0.08, 0.08)
        return Decision(actions=actions, log_prob=np.zeros(len(robots), np.float32))


class Recited:
    """Recites decisions, each robot its own, whatever it sees."""

    def __init__(self, decisions: Sequence[Array]) -> None:
        self._decisions = decisions
        self._told = [0] * len(decisions)

    def begin(self, robots: Array, rngs: Rngs) -> None: ...

    def act(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Array,
        rngs: Rngs,
    ) -> Decision:
        rows = [self._decisions[robot][self._told[robot]] for robot in robots]
        for robot in robots:
            self._told[robot] += 1
        return Decision(actions=np.stack(rows), log_prob=np.zeros(len(robots), np.float32))


@pytest.fixture(scope="module", autouse=True)
def arm() -> Iterator[None]:
    gymnasium.register(ARM, lambda **given: Arm(**given))
    yield
    del gymnasium.registry[ARM]


def demonstrations(actions: list[list[float]], state: list[list[float]]) -> Demonstrations:
    """Return episodes of one joint; the action of an episode's last frame is not real."""
    lengths = [len(one) for one in actions]
    return Demonstrations(
        state=torch.tensor([[value] for one in state for value in one]),
        features=torch.zeros(sum(lengths), 0),
        actions=torch.tensor([[value] for one in actions for value in one]),
        steps_to_go=torch.cat([torch.arange(n).flip(0) for n in lengths]),
        episode_lengths=np.array(lengths),
        instructions=("go",) * len(lengths),
        spaces=SPACES,
    )


TWO = demonstrations(
    [[10.0, 11.0, 12.0, 99.0], [20.0, 21.0, 99.0]], [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0]]
)


def test_chunks_of_two_by_hand() -> None:
    found = chunked(TWO, Chunking(chunk=2))
    assert found.actions.tolist() == [
        [10, 11], [11, 12], [12, 12], [12, 12],
        [20, 21], [21, 21], [21, 21],
    ]  # fmt: skip
    assert found.steps_to_go.tolist() == [2, 1, 1, 0, 1, 1, 0]
    assert found.acted_frames().tolist() == TWO.acted_frames().tolist()
    assert (found.spaces.action, found.spaces.axes) == (2, 1)


def test_relative_chunks_of_three_by_hand() -> None:
    found = chunked(TWO, Chunking(chunk=3, relative=True))
    assert found.actions[:3].tolist() == [[9, 10, 11], [9, 10, 10], [9, 9, 9]]
    assert found.actions[4:6].tolist() == [[15, 16, 16], [15, 15, 15]]
    assert found.steps_to_go.tolist() == [1, 1, 1, 0, 1, 1, 0]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(2, 12), min_size=1, max_size=4), st.integers(1, 6))
def test_a_chunk_later_the_demonstration_is_a_chunk_nearer(lengths: list[int], chunk: int) -> None:
    plain = demonstrations(
        [[float(100 * e + t) for t in range(n)] for e, n in enumerate(lengths)],
        [[0.0] * n for n in lengths],
    )
    found = chunked(plain, Chunking(chunk=chunk))
    acted = plain.acted_frames()
    assert torch.equal(found.actions[acted, :1], plain.actions[acted])
    whole = torch.nonzero(plain.steps_to_go >= chunk).squeeze(1)
    assert torch.equal(found.steps_to_go[whole + chunk], found.steps_to_go[whole] - 1)
    assert torch.equal(found.actions[whole].diff(dim=1), torch.ones(len(whole), chunk - 1))
    assert torch.equal(found.steps_to_go > 0, plain.steps_to_go > 0)


FLOATS = st.floats(-8, 8, width=32)


@settings(deadline=None, max_examples=50)
@given(arrays(np.float32, (3, 4, 2), elements=FLOATS), arrays(np.float32, (3, 2), elements=FLOATS))
def test_what_is_joined_can_be_split(actions: Array, joints: Array) -> None:
    absolute, relative = Chunking(chunk=4), Chunking(chunk=4, relative=True)
    decisions = join_actions(absolute, actions, joints)
    assert np.array_equal(split_decisions(absolute, decisions, joints), actions)
    again = split_decisions(relative, join_actions(relative, actions, joints), joints)
    np.testing.assert_allclose(again, actions, rtol=0, atol=16 * np.finfo(np.float32).eps)
    still = split_decisions(relative, np.zeros((3, 8), np.float32), joints)
    assert np.array_equal(still, np.repeat(joints[:, None], 4, axis=1))


def test_a_chunk_of_one_changes_nothing() -> None:
    assert chunked(TWO, PLAIN) is TWO
    plain = make_fleet(ARM, 3)
    assert in_chunks(plain, PLAIN) is plain
    wrapped = ChunkedFleet(make_fleet(ARM, 3), PLAIN)
    assert wrapped.spaces == plain.spaces
    walked = [
        [
            (one.observations.state.tobytes(), one.actions.tobytes(), one.ended)
            for one in collect(
                fleet, Reacher(), NoTermination(), seeds=iter(range(9)), max_steps=20
            )
        ]
        for fleet in (plain, wrapped)
    ]
    assert walked[0] == walked[1]


@pytest.mark.parametrize("env", [POINT_MASS, ARM])
def test_a_fleet_in_chunks_keeps_the_contract(env: str) -> None:
    check_fleet(ChunkedFleet(make_fleet(env, 3), Chunking(chunk=3)))


def test_a_chunk_is_its_actions_one_after_the_other() -> None:
    robots, draw = np.arange(4), np.random.default_rng(0)
    decisions = draw.normal(0, 1e-3, (3, 4, 10)).astype(np.float32)
    plain, whole = (
        make_fleet(POINT_MASS, 4),
        ChunkedFleet(make_fleet(POINT_MASS, 4), Chunking(chunk=5)),
    )
    for fleet in (plain, whole):
        fleet.reset(robots, [1, 2, 3, 4])
    for decision in decisions:
        after = whole.step(robots, decision).observation.state
        stepped = [plain.step(robots, decision[:, i : i + 2]) for i in range(0, 10, 2)]
        assert np.array_equal(after, stepped[-1].observation.state)


def test_robots_execute_what_was_demonstrated() -> None:
    """Training and serving mean the same by a relative decision."""
    chunking = Chunking(chunk=3, relative=True)
    shown = list(
        collect(make_fleet(ARM, 2), Reacher(), NoTermination(), seeds=iter([5, 8]), max_steps=30)
    )
    fleet = ChunkedFleet(make_fleet(ARM, 1), chunking)
    for one in shown:
        assert one.ended is Ended.ENVIRONMENT
        data = Demonstrations(
            state=torch.from_numpy(one.observations.state),
            features=torch.zeros(one.num_steps + 1, 0),
            actions=torch.from_numpy(np.concatenate([one.actions, one.actions[-1:]])),
            steps_to_go=torch.arange(one.num_steps + 1).flip(0),
            episode_lengths=np.array([one.num_steps + 1]),
            instructions=("reach",),
            spaces=make_fleet(ARM, 1).spaces,
        )
        decisions = chunked(data, chunking).actions.numpy()[::3]
        (again,) = collect(
            fleet, Recited([decisions]), NoTermination(), seeds=iter([one.seed]), max_steps=30
        )
        assert again.ended is Ended.ENVIRONMENT
        assert again.num_steps == -(-one.num_steps // 3)
        seen = one.observations.agent_pos[::3]
        np.testing.assert_allclose(again.observations.agent_pos[: len(seen)], seen, atol=1e-6)
        last = one.observations.agent_pos[-1]
        np.testing.assert_allclose(again.observations.agent_pos[-1], last, atol=1e-6)


def test_a_robot_whose_env_ends_stops_within_its_chunk() -> None:
    envs = [Arm(), Arm()]
    fleet = ChunkedFleet(SingleEnvFleet(envs), Chunking(chunk=4))
    robots = np.arange(2)
    starts = fleet.reset(robots, [3, 4]).observation
    goal, joints = starts.environment_state, starts.agent_pos
    near = goal - np.float32([[0.14, 0], [9, 9]])  # one step from the goal; never there
    envs[0]._joints = near[0]
    sensed = fleet.step(robots, np.tile(np.stack([goal[0], joints[1]]), (1, 4)))
    assert sensed.env_ended.tolist() == [True, False]
    assert [env.num_steps for env in envs] == [1, 4]
    assert fleet.ground_truth(robots).tolist() == [True, False]
    np.testing.assert_allclose(sensed.observation.agent_pos[0], near[0] + [0.1, 0], atol=1e-6)
    np.testing.assert_array_equal(sensed.observation.agent_pos[1], joints[1])


class PassingBy(CountingFleet):
    """Its instruction is fulfilled at its fourth step alone."""

    def ground_truth(self, robots: Array) -> Array:
        return self._position[robots, 1] == 4


def test_evaluation_counts_control_steps_and_the_truth_after_a_chunk() -> None:
    def evaluated(fleet: CountingFleet, chunk: int) -> list[tuple[bool, int]]:
        tell = [np.zeros((9, chunk), np.float32)]
        seeds = list(islice(episode_seeds(Purpose.EVALUATION, 0), 1))
        fleet._goal_steps = 7 if seeds[0] % 3 else 99
        chunks = ChunkedFleet(fleet, Chunking(chunk=chunk))
        result, _ = evaluate(chunks, Recited(tell), episodes=1, max_steps=11, seed=0)
        assert len(fleet.actions) <= 11
        return [(one.success, one.num_steps) for one in result.results]

    assert evaluated(PassingBy(1, 0), 2) == [(True, 4)]
    assert evaluated(PassingBy(1, 0), 3) == [(False, 11)]


def test_a_time_limit_is_in_control_steps() -> None:
    fleet = CountingFleet(2, 99)
    tell = [np.arange(12, dtype=np.float32).reshape(4, 3) + 100 * robot for robot in range(2)]
    wrapped = ChunkedFleet(fleet, Chunking(chunk=3))
    episodes = list(
        collect(wrapped, Recited(tell), NoTermination(), seeds=iter([1, 2]), max_steps=11)
    )
    for robot, one in enumerate(episodes):
        assert (one.num_steps, one.ended) == (3, Ended.TIME_LIMIT)
        assert one.observations.agent_pos[:, 1].tolist() == [0, 3, 6, 9]
        done = [(count, action) for seed, count, action in fleet.actions if seed == one.seed]
        assert done == [(step, 100 * robot + step) for step in range(9)]
    with pytest.raises(ConfigError, match=r"one chunk .* 3 control steps, got 2; raise --max-step"):
        list(collect(wrapped, Recited(tell), NoTermination(), seeds=iter([1]), max_steps=2))


def test_actions_beyond_the_limits_are_counted_a_control_step_each() -> None:
    fleet = ChunkedFleet(make_fleet(ARM, 1), Chunking(chunk=2, relative=True))
    decisions = np.float32([[0.1, 0, 0.5, 0], [0, 0, 0, 0]])
    one = Episode(
        robot=0,
        seed=1,
        instruction="reach",
        policy_version=0,
        observations=EncodedObservation.without_features(
            Observation(
                agent_pos=np.float32([[0.7, 0], [0.8, 0], [0.9, 0]]),
                environment_state=np.zeros((3, 2), np.float32),
            )
        ),
        actions=decisions,
        log_prob=np.zeros(2, np.float32),
        ended=Ended.TIME_LIMIT,
    )
    assert actions_outside(fleet.spaces, [one]) == 1  # 0.7 + 0.5 is above 1


def test_a_film_shows_every_control_step_of_a_relative_policy() -> None:
    chunking = Chunking(chunk=3, relative=True)
    decisions = np.full((9, 6), 0.05, np.float32)
    decisions[:, 2:4] += 0.05
    decisions[:, 4:] += 0.1
    fleet = ChunkedFleet(make_fleet(ARM, 1), chunking)
    (one,) = collect(fleet, Recited([decisions]), NoTermination(), seeds=iter([2]), max_steps=12)
    recorded = one.observations.agent_pos
    with rendering_env(ARM) as env:
        assert env is not None
        frames = np.stack(list(replay(env, one.seed, one.actions, recorded, chunking)))
        assert frames[:, 0, 0, 0].tolist() == list(range(13))
        with pytest.raises(EnvError, match="bit for bit"):
            list(replay(env, one.seed, one.actions + np.float32(0.01), recorded, chunking))


def test_a_relative_policy_needs_a_joint_a_number() -> None:
    with pytest.raises(ConfigError, match=r"--relative .* got 4 joints and 2 numbers; leave it"):
        make_fleet(POINT_MASS, 1).spaces.in_chunks(Chunking(relative=True))


def test_the_room_of_practice_is_in_control_steps() -> None:
    practice = Practice(
        max_env_steps=1000, updates_per_iteration=2, batch_size=30, max_steps=100, discount=0.9
    )
    practice.check_room(num_robots=7, chunk=5)  # 5 * 60 + 7 * 100
    with pytest.raises(ConfigError, match=r"1060 or more, .* decisions of 6 control steps"):
        practice.check_room(num_robots=7, chunk=6)


@pytest.mark.parametrize(
    ("control_hz", "chunk", "rate"), [(10, 1, 10), (10, 5, 2), (50, 16, 3), (5, 20, 1)]
)
def test_decisions_a_second_are_whole(control_hz: int, chunk: int, rate: int) -> None:
    assert Chunking(chunk=chunk).decision_rate(control_hz) == rate


def document(path: Path) -> Any:
    return json.loads(path.read_text())


def test_both_stages_in_chunks_from_the_command_line(
    stage_one: Path, tmp_path: Path, capsys: Capture
) -> None:
    run, practice = tmp_path / "sft", tmp_path / "practice"
    tiny = [
        "--mlp.hidden",
        "16",
        "--updates",
        "20",
        "--validate-every",
        "20",
        "--mlp.num-bins",
        "30",
    ]
    calibrated = ["--calibration.env", POINT_MASS, "--calibration.rollouts", "10"]
    data = ["--data", str(stage_one / "data"), "--model", "mlp"]
    main(["sft", *data, "--chunk", "5", *tiny, *calibrated, "--out", str(run)])
    saved = document(run / "checkpoints/policy/pretrained_model/config.json")["spaces"]
    assert (saved["action"], saved["chunking"]) == (10, {"chunk": 5, "relative": False})
    env, limits = ["--env", POINT_MASS], ["--max-steps", "33", "--num-envs", "4"]
    some = ["--max-env-steps", "800", "--updates-per-iteration", "2", "--batch-size", "8"]
    judged = ["--threshold", "2", "--out", str(practice)]
    main(["improve", "--run", str(run), *env, *limits, *some, *judged])
    main(["eval", "--checkpoint", str(practice), *env, *limits, "--episodes", "9"])
    main(["report", str(run), str(practice), "--out", str(tmp_path / "report.html")])

    page = (tmp_path / "report.html").read_text()
    assert page.count("decisions of 5 control steps each") == 2

    stored = open_dataset(practice / "practice")
    assert (stored.info.fps, stored.columns["action"].shape[1]) == (2, 10)
    decisions = int((stored.episode_lengths - 1).sum())
    last = read_metrics(practice)[-1]
    assert last["practice/env_steps"] == 5 * decisions <= 800
    store = PracticeStore.open(practice / "practice", Spaces(
        agent_pos=4, environment_state=2, action=10
    ), 2, "PointMass-v0")  # fmt: skip
    read = [one for i in range(int(last["step"])) for one in store.read(i)]
    assert sum(one.episode.num_steps for one in read) == decisions
    assert max(one.episode.num_steps for one in read) <= 6
    for one in document(practice / "eval/eval_info.json")["episodes"]:
        assert one["num_steps"] % 5 == 0 if one["success"] else one["num_steps"] == 33

    labelled = ["--data", str(stage_one / "data"), str(practice / "practice"), *env]
    rolled = ["--rollouts", "6", "--rollout-steps", "33", "--baseline-updates", "5"]
    out = ["--out", str(tmp_path / "trust"), "--cache", str(tmp_path / "cache")]
    main(["eval-reward", "--checkpoint", str(run), *labelled, *rolled, *out])
    report = read_reward_report(tmp_path / "trust" / REWARD_REPORT, "")
    assert report.unit == "chunks of 5 steps"
    metrics = [source.reward for source in report.sources.values()]
    shown, practised, rollouts = (source.num_frames for source in metrics)
    longest = metrics[0].by_distance[-1].to_steps
    lengths = open_dataset(stage_one / "data").episode_lengths
    assert 0 < longest <= (lengths.max() - 1) // 5
    assert practised == decisions + len(read)
    assert rollouts == 6 * (33 // 5 + 1)
    assert shown < int(lengths.sum()) / 4
    assert (
        "All steps below are chunks of 5 steps."
        in (tmp_path / "trust/reward_report.md").read_text()
    )
    with pytest.raises(SystemExit):
        main(["eval-reward", "--checkpoint", str(stage_one / "sft"), "--data",
              str(practice / "practice"), *out])  # fmt: skip
    assert "got 1; train it with nearer sft --chunk 5" in capsys.readouterr().err


def test_the_time_limit_of_calibration_is_checked_before_training(
    stage_one: Path, tmp_path: Path, capsys: Capture
) -> None:
    data = ["--data", str(stage_one / "data"), "--model", "mlp", "--out", str(tmp_path / "run")]
    for flags, sentence in (
        (["--chunk", "0"], "nearer: --chunk must be 1 or more, got 0; the default is 1"),
        (["--chunk", "200", "--calibration.env", POINT_MASS], "nearer: a time limit must leave"),
        (["--chunk", "5", "--relative"], "nearer: --relative must have a joint"),
    ):
        with pytest.raises(SystemExit):
            main(["sft", *data, *flags])
        assert capsys.readouterr().err.startswith(sentence)
        assert not (tmp_path / "run").exists()


def test_an_arm_learns_relative_chunks(tmp_path: Path) -> None:
    """Seeded: a policy of three joint targets at once, given less the joints, reaches the goal."""
    data, run = str(tmp_path / "data"), str(tmp_path / "sft")
    main(["collect", "--env", ARM, "--episodes", "60", "--num-envs", "20", "--max-steps", "40",
          "--min-observations", "3", "--out", data])  # fmt: skip
    main(["sft", "--data", data, "--model", "mlp", "--chunk", "3", "--relative", "--mlp.hidden",
          "64", "--mlp.num-bins", "16", "--updates", "300", "--validate-every", "150", "--out",
          run])  # fmt: skip
    main(["eval", "--checkpoint", run, "--env", ARM, "--episodes", "30", "--num-envs", "20",
          "--max-steps", "60", "--videos", "1"])  # fmt: skip
    main(["sft", "--resume", "--relative", "--chunk", "3", "--out", run])  # what it is already
    info = document(Path(run) / "eval/eval_info.json")
    assert info["overall"]["pc_success"] > 70
    assert len(list((Path(run) / "eval/videos").glob("*.mp4"))) == 1
    plain = load_demonstrations(open_dataset(Path(data)))
    shown = chunked(plain, Chunking(chunk=3, relative=True)).actions
    assert shown.abs().max() < 3 * 0.08 + 1e-5 < plain.actions.abs().max()


class Tally:
    """A sight that counts how many frames of an episode it has seen."""

    identity, encoding_width, width = "tally", 1, 1

    def encode(self, images: Any, instructions: Sequence[str]) -> Array:
        return np.ones((len(instructions), 1), np.float32)

    def track(self, before: Array | None, encodings: Array) -> Array:
        return encodings if before is None else before + encodings


def test_a_sight_follows_every_control_step_of_a_chunk() -> None:
    fleet = in_chunks(encoded(CountingFleet(2, 9), Tally()), Chunking(chunk=3))
    robots = np.arange(2)
    assert fleet.reset(robots, [1, 2]).observation.features.tolist() == [[1], [1]]
    for _ in range(2):
        sensed = fleet.step(robots, np.zeros((2, 3), np.float32))
    assert sensed.observation.features.tolist() == [[7], [7]]


@pytest.mark.parametrize(
    ("chunking", "sentence"),
    [
        ({"chunk": 0}, "--chunk must be 1 or more, got 0"),
        ({"steps": 5}, "must fit the model that config.json describes"),
        ({"chunk": "5"}, "must fit the model that config.json describes"),
        ({"chunk": 2}, "must have the spaces of the checkpoint"),
    ],
)
def test_a_damaged_chunk_is_a_sentence(
    stage_one: Path, tmp_path: Path, chunking: Any, sentence: str, capsys: Capture
) -> None:
    copied = tmp_path / "model"
    shutil.copytree(stage_one / "sft/checkpoints/policy/pretrained_model", copied)
    (tmp_path / "COMPLETE").touch()
    config = document(copied / "config.json")
    config["spaces"]["chunking"] = chunking
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(SystemExit):
        main(["eval", "--checkpoint", str(copied), "--env", POINT_MASS])
    assert sentence in capsys.readouterr().err
