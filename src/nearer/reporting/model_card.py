"""The model card of a run: README.md on the hub, made of what its files say and nothing else.

Text from outside (names of envs, data sets, instructions) is escaped, so that none becomes markup.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

from huggingface_hub import EvalResult, ModelCardData

from nearer.algorithm.early_stopping import AlarmStop
from nearer.core.intervals import Rate
from nearer.evaluation.eval_info import EvalInfo
from nearer.evaluation.success import Evaluation
from nearer.evaluation.threshold import DetectorAtThreshold
from nearer.reporting.model_facts import ModelFacts, Practised, Trained, hub_id, reward_report_of
from nearer.reporting.reward_table import reward_table

PAPER = "https://arxiv.org/abs/2509.15155"
_LONGEST = 120  # characters of a text from outside
_INSTRUCTIONS = 10  # of more, each has too few episodes to say anything
_SETTINGS = 30
_MARKS = re.compile(r"([\\`*_{}\[\]()#+!|~:@$=]|(?i:(?<=www))\.)")
"""What Markdown reads as more than text: marks, and what makes a link of an address."""
_EXTRA = {"vlm": "[vlm]", "dual-encoder": "[vlm]"}


def model_card(facts: ModelFacts, name: str, licence: str | None = None) -> str:
    """Return a model card as Markdown with its YAML header.

    Args:
        facts: what the run's files say.
        name: user/name, checked.
        licence: of the weights, as the hub writes it, such as apache-2.0; None: apache-2.0 for a
            built-in model, and left open for one that started from another one's weights.
    """
    if licence is None and facts.kind not in _EXTRA:
        licence = "apache-2.0"
    parts = [
        f"---\n{_header(facts, name, licence)}\n---\n",
        f"# {name}\n",
        _what(facts, licence),
        _numbers(facts),
        _detector(facts),
        _reward_metrics(facts),
        _data(facts.trained),
        _practice(facts.practised),
        _loading(facts, name),
        _limits(facts),
    ]
    return "\n".join(part for part in parts if part)


def plain(value: object) -> str:
    """Return a text from outside for a line of Markdown: bounded, and nothing of it a mark."""
    words = "".join(mark if mark.isprintable() else " " for mark in str(value)).split()
    line = " ".join(words)
    if len(line) > _LONGEST:
        line = f"{line[:_LONGEST]}…"
    return _MARKS.sub(r"\\\1", escape(line, quote=False))


def _header(facts: ModelFacts, name: str, licence: str | None) -> str:
    trained = facts.trained
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
        eval_results=_results(facts.evaluation),
    )
    return header.to_yaml()


def _results(info: EvalInfo | None) -> list[EvalResult] | None:
    if info is None:
        return None
    env, evaluated = " ".join(info.env.split())[:_LONGEST], info.evaluation
    low, high = evaluated.success.interval
    result = EvalResult(
        task_type="robotics",
        dataset_type=env,
        dataset_name=env,
        metric_type="success_rate",
        metric_name=f"success, n = {evaluated.success.total}, 95 % in [{low:.3f}, {high:.3f}]",
        metric_value=round(evaluated.success.value, 4),
    )
    return [result]


def _what(facts: ModelFacts, licence: str | None) -> str:
    trained, stage = facts.trained, 2 if facts.practised else 1
    model = plain(facts.kind)
    if trained and trained.base:
        model += f" from {plain(trained.base)}"
    rights = "" if licence else " Licence: that of the pretrained model it started from."
    how = "fine-tuned on demonstrations" + (", then practised" if stage == 2 else "")
    return _paragraph(
        f"A robot policy of nearer, {how} (Stage {stage} of "
        f"[Self-Improving Embodied Foundation Models]({PAPER})). The same model says how many "
        f"{facts.unit} are left until an instruction is done; that is its reward and its "
        "success detector.",
        f"Model {model}, {facts.num_weights:,} weights. In: {plain(facts.inputs)}. "
        f"Trained with nearer {plain(facts.version)}, seed {facts.seed}, one run.{rights}",
    )


def _numbers(facts: ModelFacts) -> str:
    if facts.evaluation is None:
        advice = "Measure it: `nearer eval --checkpoint RUN --env ID`."
        return _section("Success", f"Not evaluated. {advice}")
    evaluated = facts.evaluation.evaluation
    head = _paragraph(
        f"By the simulator's ground truth, in {plain(facts.evaluation.env)}, seeded starts "
        f"(evaluation seed {evaluated.seed}), at most {evaluated.max_steps} control steps, actions "
        "sampled; 95 % Wilson interval over starts. It does not say how training differs from seed "
        "to seed: this is one run."
    )
    tasks = sorted({result.instruction for result in evaluated.results})
    rows = [("all", str(evaluated.success), f"{evaluated.mean_length:.1f}")]
    more = ""
    if 1 < len(tasks) <= _INSTRUCTIONS:
        rows += [_task_row(evaluated, task) for task in tasks]
    elif len(tasks) > 1:
        more = f"\nEach of the {len(tasks)} instructions is in eval_info.json.\n"
    table = _table(("instruction", "success [95 %] (n)", "steps, a failure counts the limit"), rows)
    return _section("Success", head + "\n" + table + more)


def _task_row(evaluated: Evaluation, task: str) -> tuple[str, str, str]:
    results = [result for result in evaluated.results if result.instruction == task]
    rate = Rate(successes=sum(result.success for result in results), total=len(results))
    mean_steps = sum(result.num_steps for result in results) / len(results)
    return plain(task), str(rate), f"{mean_steps:.1f}"


def _reward_metrics(facts: ModelFacts) -> str:
    """Return what nearer eval-reward measured of the reward, if it has."""
    report = reward_report_of(facts)
    if report is None:
        return ""
    sources = {plain(name): source for name, source in report.sources.items()}
    return reward_table(replace(report, checkpoint="the reward", sources=sources))


def _detector(facts: ModelFacts) -> str:
    calibration = facts.calibration
    where = "`reward/`" if facts.reward is not None else "not uploaded with this policy"
    if calibration is None:
        return _section("Success detector", f"Not calibrated. The frozen reward is {where}.")
    rows = [
        (
            plain(source),
            _precision(detector),
            f"{detector.recall:.3f}",
            str(detector.num_episodes),
        )
        for source, detector in calibration.at_threshold.items()
    ]
    head = _paragraph(
        f"The frozen reward ({where}) calls an instruction done at {calibration.threshold_steps:g} "
        f"{facts.unit} to go or fewer. On labelled episodes, those it was chosen on among them:"
    )
    names = ("labelled episodes", "precision [95 %] (n fired)", "recall", "episodes")
    return _section("Success detector", head + "\n" + _table(names, rows))


def _precision(detector: DetectorAtThreshold) -> str:
    return str(detector.counts.precision) if detector.num_detections else "never fired"


def _data(trained: Trained | None) -> str:
    if trained is None:
        return _section("Demonstrations", "The run that learned from them is not here.")
    hub = hub_id(trained.data)
    # A folder's place is nobody's business, and nobody else could use it.
    source = hub or re.split(r"[/\\]", trained.data.rstrip("/\\"))[-1]
    revision = f" at {plain(trained.revision)}" if hub and trained.revision else ""
    where = "on the hub" if hub else "a local LeRobotDataset"
    head = f"{plain(source)}{revision} ({where}), {100 * trained.fraction:g} % of its episodes.\n"
    return _section("Demonstrations", head + "\n" + _settings(trained.settings))


def _practice(practised: Practised | None) -> str:
    if practised is None:
        return ""
    if not practised.episodes:
        no_gain = "No policy was better than the one practice started with, which this is.\n"
        no_gain += _alarm(practised.alarm)
        return _section("Practice", no_gain + "\n" + _settings(practised.settings))
    head = (
        f"{practised.episodes:,} episodes, {practised.env_steps:,} control steps of all robots in "
        f"{plain(practised.env)}. The reward was the frozen model's; ground truth was not "
        "used, except where a deviation below says so.\n" + _alarm(practised.alarm)
    )
    return _section("Practice", head + "\n" + _settings(practised.settings))


def _alarm(stop: AlarmStop | None) -> str:
    """Return what ground truth had to do with a run that an alarm of its audits ended."""
    if stop is None:
        return ""
    chosen = "and chose this policy, the last before it" if stop.kept else "and chose nothing else"
    return (
        f"\nAn alarm of the audits, which compare the detector with ground truth or a person's "
        f"answers, ended practice in iteration {stop.iteration}, {chosen}: {plain(stop.alarm)}\n"
    )


def _loading(facts: ModelFacts, name: str) -> str:
    extra = _EXTRA.get(facts.kind, "")
    practised_in = facts.practised.env if facts.practised else ""
    env = facts.evaluation.env if facts.evaluation else practised_in
    # In a block of code nothing can be escaped, so an env that is no plain id is left out.
    env = env if re.fullmatch(r"[\w.:/-]{1,120}", env, re.ASCII) else "ID"
    code = f"""```
pip install 'nearer{extra}'
nearer eval --checkpoint {name} --env {env}
```

```python
import nearer

policy = nearer.from_pretrained("{name}")
"""
    if facts.reward is not None:
        code += f'reward = nearer.from_pretrained("{name}", "reward")\n'
    code += "```\n"
    if facts.reward is not None and facts.calibration_file is not None:
        code += f"\nLet it practise on: `nearer improve --run {name} --env {env}`.\n"
    return _section("Use", code)


def _limits(facts: ModelFacts) -> str:
    measured = f"in {plain(facts.evaluation.env)} alone" if facts.evaluation else "nowhere"
    lines = [
        f"Measured {measured}; of other robots, cameras and instructions nothing is known.",
        f"Steps to go count {facts.unit} of control: another rate changes their meaning.",
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
