"""What `import nearer` gives, and what it does with observations in numpy."""

import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pyarrow.parquet as pq
import pytest

import nearer
from nearer.algorithm.model import inputs_of
from nearer.algorithm.score import steps_to_go_probabilities
from nearer.algorithm.steps_to_go import expected_steps
from nearer.commands.label import run_label
from nearer.configs.label import LabelConfig
from nearer.core.action_chunks import Chunking
from nearer.core.interfaces import Decision
from nearer.core.seeds import Purpose, generator
from nearer.core.spaces import Camera
from nearer.datasets.demonstration_loading import load_demonstrations
from nearer.datasets.lerobot.reader import open_dataset
from nearer.fleets.encoded import EncodedFleet, Encoders, encode_episode
from nearer.models.factory import new_model
from nearer.models.settings import MLPConfig, SmallVLAConfig
from nearer.testing import CountingFleet

POINT_MASS = nearer.Spaces(agent_pos=4, environment_state=2, action=2)
CAMERA = Camera("front", 96, 128)
TABLE = nearer.Spaces(agent_pos=2, environment_state=0, action=2, cameras=(CAMERA,))
INSTRUCTION = "push the red moon to the blue cube"


def states(rows: int, seed: int = 0) -> nearer.Observation:
    rng = np.random.default_rng(seed)
    return nearer.Observation(
        agent_pos=rng.normal(size=(rows, 4)).astype(np.float32),
        environment_state=rng.normal(size=(rows, 2)).astype(np.float32),
    )


def images(rows: int, seed: int = 0) -> nearer.Observation:
    rng = np.random.default_rng(seed)
    return nearer.Observation(
        agent_pos=rng.normal(size=(rows, 2)).astype(np.float32),
        environment_state=np.zeros((rows, 0), np.float32),
        images={"front": rng.integers(0, 255, (rows, 96, 128, 3), dtype=np.uint8)},
    )


def agent_of(model: nearer.FoundationModel, threshold: float | None = 1.0) -> nearer.Agent:
    return nearer.Agent(model, model, threshold, generator(Purpose.SERVING, 0))


def mlp(spaces: nearer.Spaces = POINT_MASS) -> nearer.FoundationModel:
    return new_model("mlp", MLPConfig(hidden=16), spaces, (), seed=0).eval()


@pytest.fixture(scope="module")
def small_vla() -> nearer.FoundationModel:
    return new_model("small-vla", SmallVLAConfig(hidden=16), TABLE, [INSTRUCTION], seed=0).eval()


def test_import_nearer_loads_no_heavy_package() -> None:
    code = (
        "import sys, nearer; dir(nearer); "
        "print(*sorted(m for m in sys.modules if m.split('.')[0] in "
        "('torch', 'numpy', 'gymnasium', 'tyro', 'rich') or m.startswith('nearer.')))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (loaded.returncode, loaded.stdout.strip(), loaded.stderr) == (0, "", "")


@pytest.mark.parametrize("name", nearer.__all__)
def test_public_name_is_listed_and_documented(name: str) -> None:
    assert name in dir(nearer)
    assert (getattr(nearer, name).__doc__ or "").strip()


def test_contracts_load_without_torch() -> None:
    names = ["Observation", "Episode", "Fleet", "Policy", "Spaces", "make_fleet", "register_env"]
    code = f"import sys; from nearer import {', '.join(names)}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_configs_and_their_parts_load_without_torch() -> None:
    code = (
        "import sys, nearer; names = nearer.configs.__all__; assert 'Practice' in names; "
        "assert all(getattr(nearer.configs, name).__doc__ for name in names); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_those_that_type_checkers_see() -> None:
    source = Path(nearer.__file__).read_text()
    block = source[source.index("if TYPE_CHECKING:\n") : source.index("__all__")]
    names: dict[str, Any] = {}
    exec(block.replace("if TYPE_CHECKING:", "if True:"), names)
    for name in nearer.__all__:
        if name != "__version__":
            assert names[name] is getattr(nearer, name)


def test_public_names_have_a_section_in_the_python_page() -> None:
    page = (Path(nearer.__file__).parents[2] / "docs/python.md").read_text()
    for name in nearer.__all__:
        assert f"`{name}`" in page or f"`nearer.{name}`" in page, f"docs/python.md lacks {name}"


def test_version_is_the_one_of_pyproject() -> None:
    project = (Path(nearer.__file__).parents[2] / "pyproject.toml").read_text()
    assert nearer.__version__ == tomllib.loads(project)["project"]["version"]


def test_unknown_name_is_refused_with_the_closest_one() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'Agnet'; did you mean Agent\?"):
        _ = nearer.Agnet  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="it has Agent, Episode"):
        _ = nearer.zzz  # type: ignore[attr-defined]
    assert not hasattr(nearer, "__path_hook__")


def test_act_from_a_dict_an_instant_or_a_row_is_the_same() -> None:
    model, row = mlp(), states(1)
    raw = {"agent_pos": row.agent_pos[0], "environment_state": row.environment_state[0]}
    instant = nearer.Observation(**raw)
    answers = [agent_of(model).act(given, "touch the goal") for given in (raw, instant, row)]
    assert answers[0].actions.shape == (1, 2)
    for answer in answers[1:]:
        assert np.array_equal(answer.actions, answers[0].actions)
        assert answer.log_prob == answers[0].log_prob
        assert answer.steps_to_go == answers[0].steps_to_go


def test_log_prob_of_sampled_actions_is_what_act_returned() -> None:
    model, observations = mlp(), states(6)
    agent = agent_of(model)
    answers = [agent.act(observations.rows(slice(t, t + 1)), "touch") for t in range(5)]
    actions = np.concatenate([answer.actions for answer in answers])
    expected = [answer.log_prob for answer in answers]
    assert agent.log_prob(observations, actions, "touch") == pytest.approx(expected, abs=1e-4)


def test_log_prob_of_chunks_is_one_a_decision() -> None:
    spaces = replace(POINT_MASS, agent_pos=2, action=2).in_chunks(Chunking(chunk=3, relative=True))
    model, whole = mlp(spaces), states(8)
    observations = replace(whole, agent_pos=whole.agent_pos[:, :2])
    agent = agent_of(model)
    chunks = [agent.act(observations.rows(slice(t, t + 1)), "touch") for t in (0, 3)]
    actions = np.concatenate([answer.actions for answer in chunks])
    log_prob = agent.log_prob(observations, np.concatenate([actions, actions[:1]]), "touch")
    assert log_prob == pytest.approx([answer.log_prob for answer in chunks], abs=1e-4)


def test_agent_in_chunks_counts_control_steps() -> None:
    spaces = POINT_MASS.in_chunks(Chunking(chunk=3))
    answer = agent_of(mlp(spaces), threshold=2.0).act(states(1), "touch")
    alone = agent_of(mlp(spaces)).observe(states(1), "touch")
    assert answer.actions.shape == (3, 2)
    assert not hasattr(alone, "actions")
    assert alone.steps_to_go == answer.steps_to_go
    assert agent_of(mlp(spaces), threshold=2.0).threshold_steps == 6.0


def test_agent_tracks_images_until_a_reset_or_another_instruction(
    small_vla: nearer.FoundationModel,
) -> None:
    def predicted(observations: nearer.Observation, instruction: str) -> list[float]:
        encoded = encode_episode(small_vla.vision_encoder, observations, instruction)
        inputs = inputs_of(encoded, [instruction] * len(encoded.agent_pos))
        return expected_steps(steps_to_go_probabilities(small_vla, inputs), small_vla.bins).tolist()

    frames, other = images(3), "push the blue cube to the red moon"
    rows = [frames.rows(slice(t, t + 1)) for t in range(3)]
    agent = agent_of(small_vla)
    tracked = [agent.observe(rows[0], INSTRUCTION), *map(agent.observe, rows[1:])]
    assert [answer.steps_to_go for answer in tracked] == pytest.approx(
        predicted(frames, INSTRUCTION), abs=1e-3
    )
    anew = agent.observe(rows[1], reset=True), agent.observe(rows[2])
    assert [answer.steps_to_go for answer in anew] == pytest.approx(
        predicted(frames.rows(slice(1, 3)), INSTRUCTION), abs=1e-3
    )
    assert agent.observe(rows[1], other).steps_to_go == pytest.approx(
        predicted(rows[1], other)[0], abs=1e-3
    )
    assert agent.instruction == other


def test_encode_episode_gives_the_features_of_practice(small_vla: nearer.FoundationModel) -> None:
    frames, encoder = images(4), small_vla.vision_encoder
    assert encoder is not None

    class Recorded(CountingFleet):
        def reset(self, robots: Any, seeds: Any) -> Any:
            self.frame = 0
            starts = super().reset(robots, seeds)
            return replace(starts, observation=frames.rows(slice(0, 1)), instructions=[INSTRUCTION])

        def step(self, robots: Any, actions: Any) -> Any:
            self.frame += 1
            now = slice(self.frame, self.frame + 1)
            return replace(super().step(robots, actions), observation=frames.rows(now))

    fleet, robots = EncodedFleet(Recorded(1, 9), Encoders(encoder, None, 1)), np.arange(1)
    practised = [fleet.reset(robots, [0]).observation.features]
    practised += [
        fleet.step(robots, np.zeros((1, 1), np.float32)).observation.features for _ in range(3)
    ]
    encoded = encode_episode(encoder, frames, INSTRUCTION)
    assert np.allclose(encoded.features, np.concatenate(practised), atol=1e-5)


def test_score_is_what_label_gives_the_same_episode(stage_one: Path, tmp_path: Path) -> None:
    reward_model = nearer.RewardModel.load(stage_one / "sft")
    out = tmp_path / "labels.parquet"
    run_label(LabelConfig(data=str(stage_one / "data"), model=stage_one / "sft", out=out))
    labels = pq.read_table(out).to_pydict()
    data = load_demonstrations(open_dataset(stage_one / "data"))
    length = int(data.episode_lengths[0])
    state = data.state.numpy()[:length]
    observations = nearer.Observation(agent_pos=state[:, :4], environment_state=state[:, 4:])
    scored = reward_model.score(observations, data.instructions[0])
    columns = {
        "steps_to_go": scored.steps_to_go,
        "steps_to_go_std": scored.steps_to_go_std,
        "quantiles": scored.quantiles,
        "reward": scored.rewards,
        "return": scored.returns,
    }
    for name, ours in columns.items():
        assert np.allclose(ours, labels[name][:length], atol=1e-4), name
    assert scored.solved.tolist() == labels["success_detected"][:length]


def test_score_without_a_threshold_asks_for_one(stage_one: Path) -> None:
    reward_model = replace(nearer.RewardModel.load(stage_one / "sft"), threshold_steps=None)
    with pytest.raises(nearer.NearerError, match="load it with threshold=STEPS"):
        reward_model.score(states(3), "touch the goal")


def test_observation_of_another_size_is_a_sentence(small_vla: nearer.FoundationModel) -> None:
    agent = agent_of(mlp())
    wrong = replace(states(1), agent_pos=np.zeros((1, 3), np.float32))
    with pytest.raises(nearer.NearerError, match=r"must have 4 numbers as agent_pos.*\(3,\)"):
        agent.act(wrong, "touch")
    nan = replace(states(1), agent_pos=np.full((1, 4), np.nan, np.float32))
    with pytest.raises(nearer.NearerError, match="agent_pos must be finite"):
        agent.act(nan, "touch")
    blind = replace(images(1), images={})
    with pytest.raises(nearer.NearerError, match="must have the image front, uint8 RGB"):
        agent_of(small_vla).act(blind, INSTRUCTION)
    with pytest.raises(nearer.NearerError, match="an observation for each of the 4 actions"):
        agent.log_prob(states(2), np.zeros((4, 2), np.float32), "touch")


def test_agent_of_a_run_acts_like_its_policy(stage_one: Path) -> None:
    agent = nearer.Agent.load(stage_one / "sft", seed=3)
    policy = nearer.from_pretrained(stage_one / "sft")
    again = nearer.Agent(policy, policy, None, generator(Purpose.SERVING, 3, 0))
    answer = agent.act(states(1), "touch the goal")
    assert np.array_equal(answer.actions, again.act(states(1), "touch the goal").actions)
    assert answer.success is (answer.steps_to_go <= (agent.threshold_steps or 0))
    assert again.observe(states(1)).success is None


class Box(gymnasium.Env):
    """A number that is to grow to 1."""

    control_hz = 10
    observation_space = gymnasium.spaces.Dict({"agent_pos": gymnasium.spaces.Box(-9, 9, (1,))})
    action_space = gymnasium.spaces.Box(-1, 1, (1,))
    task = "grow"

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.value = self.np_random.uniform(-1, 0, 1).astype(np.float32)
        return {"agent_pos": self.value.copy()}, {"is_success": False}

    def step(self, action: Any) -> Any:
        self.value = (self.value + np.clip(action, -1, 1)).astype(np.float32)
        return {"agent_pos": self.value.copy()}, 0.0, False, False, {"is_success": self.value > 1}


class Grow:
    def begin(self, robots: Any, rngs: Any) -> None:
        pass

    def act(self, observation: Any, instructions: Any, robots: Any, rngs: Any) -> Decision:
        actions = np.array([[0.2 + rng.uniform(0, 0.02)] for rng in rngs], np.float32)
        return Decision(actions=actions, log_prob=np.zeros(len(robots), np.float32))


def test_fleet_of_an_env_class_keeps_the_contract() -> None:
    fleet = nearer.make_fleet(Box, 3)
    nearer.testing.check_fleet(fleet)
    assert (fleet.num_robots, fleet.spaces.agent_pos) == (3, 1)
    with pytest.raises(nearer.NearerError, match="must be made without an error, got TypeError"):
        nearer.make_fleet(lambda: Box(1), 1)  # type: ignore[call-arg]


def test_own_env_is_registered_once_under_one_id() -> None:
    assert nearer.register_env(Box) == nearer.register_env(Box) == "local/Box-v0"
    assert nearer.register_env(Box, "lab/Box-v1") == "lab/Box-v1"
    with pytest.raises(nearer.NearerError, match="must be an id that no other env has"):
        nearer.register_env(lambda: Box(), "lab/Box-v1")
    with pytest.raises(nearer.NearerError, match="must be like lab/Name-v0"):
        nearer.register_env(lambda: Box())


def test_collect_in_an_own_env_with_an_own_demonstrator(tmp_path: Path) -> None:
    config = nearer.configs.CollectConfig(
        env=nearer.register_env(Box), out=tmp_path / "data", episodes=4, min_observations=2
    )
    assert nearer.collect(config, demonstrator=Grow()) == 4
    assert open_dataset(tmp_path / "data").tasks == ("grow",)
    with pytest.raises(nearer.NearerError, match=r"must bring a method demonstrator\(num_robots\)"):
        nearer.collect(replace(config, out=tmp_path / "none"))
