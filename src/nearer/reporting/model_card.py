"""The model card of a run: README.md on the hub, made of what its files say and nothing else.

Text from outside (names of envs, data sets, instructions) is escaped, so that none becomes markup.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape

from huggingface_hub import EvalResult, ModelCardData

from nearer.core.errors import ConfigError
from nearer.core.intervals import Rate
from nearer.evaluation.success import Evaluation
from nearer.reporting.model_facts import Detected, Practised, Published, Trained, hub_id, trust_in
from nearer.reporting.reward_table import trust_table

PAPER = "https://arxiv.org/abs/2509.15155"
_LONGEST = 120  # characters of a text from outside
_INSTRUCTIONS = 10  # of more, each has too few episodes to say anything
_SETTINGS = 30
_MARKS = re.compile(r"([\\`*_{}\[\]()#+!|~:@$=]|(?i:(?<=www))\.)")
"""What Markdown reads as more than text: marks, and what makes a link of an address."""
_EXTRA = {"vlm": "[vlm]", "dual-encoder": "[vlm]"}


def model_card(published: Published, name: str, licence: str | None = None) -> str:
    """Return a model card as Markdown with its YAML header.

    Args:
        published: what the run's files say.
        name: user/name, checked.
        licence: of the weights, as the hub writes it, such as apache-2.0; None: apache-2.0 for a
            built-in model, and left open for one that started from another one's weights.
    """
    if licence is None and published.kind not in _EXTRA:
        licence = "apache-2.0"
    parts = [
        f"---\n{_header(published, name, licence)}\n---\n",
        f"# {name}\n",
        _what(published, licence),
        _numbers(published),
        _detector(published),
        _trust(published),
        _data(published.trained),
        _practice(published.practised),
        _loading(published, name),
        _limits(published),
    ]
    return "\n".join(part for part in parts if part)


def plain(value: object) -> str:
    """Return a text from outside for a line of Markdown: bounded, and nothing of it a mark."""
    words = "".join(one if one.isprintable() else " " for one in str(value)).split()
    line = " ".join(words)
    if len(line) > _LONGEST:
        line = f"{line[:_LONGEST]}…"
    return _MARKS.sub(r"\\\1", escape(line, quote=False))


def _header(published: Published, name: str, licence: str | None) -> str:
    trained = published.trained
    base = trained.base if trained else None
    data = hub_id(trained.data) if trained else None
    header = ModelCardData(
        license=licence,
        library_name="nearer",
        pipeline_tag="robotics",
        tags=["robotics", "reinforcement-learning", "self-improvement"],
        datasets=[data] if data else None,
        base_model=base,
        model_name=name,
        eval_results=_results(published.evaluated, published.evaluated_env),
    )
    return header.to_yaml()


def _results(evaluated: Evaluation | None, env: str) -> list[EvalResult] | None:
    if evaluated is None:
        return None
    known = " ".join(env.split())[:_LONGEST]
    low, high = evaluated.success.interval
    result = EvalResult(
        task_type="robotics",
        dataset_type=known,
        dataset_name=known,
        metric_type="success_rate",
        metric_name=f"success, n = {evaluated.success.total}, 95 % in [{low:.3f}, {high:.3f}]",
        metric_value=round(evaluated.success.value, 4),
    )
    return [result]


def _what(published: Published, licence: str | None) -> str:
    trained, stage = published.trained, 2 if published.practised else 1
    model = plain(published.kind)
    if trained and trained.base:
        model += f" from {plain(trained.base)}"
    rights = "" if licence else " Licence: that of the pretrained model it started from."
    how = "fine-tuned on demonstrations" + (", then practised" if stage == 2 else "")
    return _paragraph(
        f"A robot policy of nearer, {how} (Stage {stage} of "
        f"[Self-Improving Embodied Foundation Models]({PAPER})). The same model says how many "
        f"{published.unit} are left until an instruction is done; that is its reward and its "
        "success detector.",
        f"Model {model}, {published.num_weights:,} weights. In: {plain(published.inputs)}. "
        f"Trained with nearer {plain(published.version)}, seed {published.seed}, one run.{rights}",
    )


def _numbers(published: Published) -> str:
    evaluated = published.evaluated
    if evaluated is None:
        advice = "Measure it: `nearer eval --checkpoint RUN --env ID`."
        return _section("Success", f"Not evaluated. {advice}")
    head = _paragraph(
        f"By the simulator's truth, in {plain(published.evaluated_env)}, seeded starts "
        f"(evaluation seed {evaluated.seed}), at most {evaluated.max_steps} control steps, actions "
        "sampled; 95 % Wilson interval over starts. It does not say how training differs from seed "
        "to seed: this is one run."
    )
    tasks = sorted({one.instruction for one in evaluated.results})
    rows = [("all", str(evaluated.success), f"{evaluated.mean_length:.1f}")]
    more = ""
    if 1 < len(tasks) <= _INSTRUCTIONS:
        rows += [_task_row(evaluated, task) for task in tasks]
    elif len(tasks) > 1:
        more = f"\nEach of the {len(tasks)} instructions is in eval_info.json.\n"
    table = _table(("instruction", "success [95 %] (n)", "steps, a failure counts the limit"), rows)
    return _section("Success", head + "\n" + table + more)


def _task_row(evaluated: Evaluation, task: str) -> tuple[str, str, str]:
    ours = [one for one in evaluated.results if one.instruction == task]
    rate = Rate(successes=sum(one.success for one in ours), total=len(ours))
    return plain(task), str(rate), f"{sum(one.num_steps for one in ours) / len(ours):.1f}"


def _trust(published: Published) -> str:
    """Return what nearer eval-reward measured of the reward, if it has."""
    found = trust_in(published)
    if found is None:
        return ""
    try:
        sources = {plain(name): one for name, one in found["sources"].items()}
        return trust_table({**found, "checkpoint": "the reward", "sources": sources})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            "what nearer eval-reward left in eval_reward/ of the run must be as this version "
            f"writes it, got {type(error).__name__}: {error}; run nearer eval-reward again, or "
            "delete it"
        ) from error


def _detector(published: Published) -> str:
    calibrated = published.calibrated
    where = "`reward/`" if published.reward is not None else "not uploaded with this policy"
    if calibrated is None:
        return _section("Success detector", f"Not calibrated. The frozen reward is {where}.")
    rows = [
        (
            plain(one.where),
            _precision(one),
            f"{one.recall:.3f}",
            str(one.episodes),
        )
        for one in calibrated.detected
    ]
    head = _paragraph(
        f"The frozen reward ({where}) calls an instruction done at {calibrated.threshold_steps:g} "
        f"{published.unit} to go or fewer. On labelled episodes, those it was chosen on among them:"
    )
    names = ("labelled episodes", "precision [95 %] (n fired)", "recall", "episodes")
    return _section("Success detector", head + "\n" + _table(names, rows))


def _precision(one: Detected) -> str:
    if not one.fired:
        return "never fired"
    return str(Rate(successes=round(one.precision * one.fired), total=one.fired))


def _data(trained: Trained | None) -> str:
    if trained is None:
        return _section("Demonstrations", "The run that learned from them is not here.")
    hub = hub_id(trained.data)
    # A folder's place is nobody's business, and nobody else could use it.
    source = hub or re.split(r"[/\\]", trained.data.rstrip("/\\"))[-1]
    revision = f" at {plain(trained.revision)}" if hub and trained.revision else ""
    where = "on the hub" if hub else "a local LeRobotDataset"
    head = f"{plain(source)}{revision} ({where}), {100 * trained.share:g} % of its episodes.\n"
    return _section("Demonstrations", head + "\n" + _settings(trained.settings))


def _practice(practised: Practised | None) -> str:
    if practised is None:
        return ""
    if not practised.episodes:
        kept = "No policy was better than the one practice started with, which this is.\n"
        return _section("Practice", kept + "\n" + _settings(practised.settings))
    head = (
        f"{practised.episodes:,} episodes, {practised.env_steps:,} control steps of all robots in "
        f"{plain(practised.env)}. The reward was the frozen model's; the simulator's truth was not "
        "used, except where a deviation below says so.\n"
    )
    return _section("Practice", head + "\n" + _settings(practised.settings))


def _loading(published: Published, name: str) -> str:
    extra = _EXTRA.get(published.kind, "")
    env = published.evaluated_env or (published.practised.env if published.practised else "")
    # In a block of code nothing can be escaped, so an env that is no plain id is left out.
    env = env if re.fullmatch(r"[\w.:/-]{1,120}", env, re.ASCII) else "ID"
    code = f"""```
pip install 'nearer{extra}'
nearer eval --checkpoint {name} --env {env}
```

```python
from nearer.models.pretrained import from_pretrained

policy = from_pretrained("{name}")
"""
    if published.reward is not None:
        code += f'reward = from_pretrained("{name}", "reward")\n'
    code += "```\n"
    if published.reward is not None and published.calibration is not None:
        code += f"\nLet it practise on: `nearer improve --run {name} --env {env}`.\n"
    return _section("Use", code)


def _limits(published: Published) -> str:
    seen = f"in {plain(published.evaluated_env)} alone" if published.evaluated_env else "nowhere"
    lines = [
        f"Measured {seen}; of other robots, cameras and instructions nothing is known.",
        f"Steps to go count {published.unit} of control: another rate changes their meaning.",
        "The detector makes mistakes, see above; a policy that practises on learns from them too.",
        "It knows nothing of safety: keep limits of force, speed and space outside of the policy.",
    ]
    return _section("Limits", "".join(f"- {line}\n" for line in lines))


def _settings(settings: Mapping[str, str]) -> str:
    rows = [(plain(name), plain(value)) for name, value in list(settings.items())[:_SETTINGS]]
    return _table(("setting", "value"), rows)


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body.rstrip()}\n"


def _paragraph(*sentences: str) -> str:
    return "\n\n".join(sentences) + "\n"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
