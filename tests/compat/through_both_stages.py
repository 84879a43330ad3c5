"""Another package's env through collect, sft, improve, eval and report, small."""

import json
from pathlib import Path

import nearer
from nearer.cli import main
from nearer.configs import (
    AuditPlan,
    Calibration,
    CollectConfig,
    EvalConfig,
    ImproveConfig,
    MLPConfig,
    Practice,
    SFTConfig,
    SFTTraining,
)
from nearer.core.interfaces import Policy
from nearer.fleets.env_settings import EnvSettings


def through_both_stages(
    folder: Path,
    *,
    env: str,
    settings: EnvSettings,
    demonstrator: Policy,
    episodes: int,
    max_steps: int,
) -> None:
    """Print what came out, as one JSON line.

    Args:
        folder: new, for data and runs.
        env: Gymnasium id.
        settings: how it is made and read.
        demonstrator: acts in the demonstrations.
        episodes: demonstrations to try.
        max_steps: control steps an episode may take.
    """
    data, sft, practice = (folder / name for name in ("data", "sft", "practice"))
    collect = CollectConfig(
        env=env, env_settings=settings, episodes=episodes, max_steps=max_steps, num_envs=4, out=data
    )
    successful = nearer.collect(collect, demonstrator=demonstrator)
    calibration = Calibration(
        env=env, env_settings=settings, rollouts=20, rollout_steps=max_steps, min_precision=0.9
    )
    training = SFTTraining(updates=1500, validate_every=500)
    nearer.sft(
        SFTConfig(
            data=str(data),
            model="mlp",
            mlp=MLPConfig(num_bins=max_steps + 1),
            training=training,
            calibration=calibration,
            out=sft,
        )
    )
    nearer.improve(
        ImproveConfig(
            run=sft,
            env=env,
            env_settings=settings,
            practice=Practice(max_env_steps=12_000, max_steps=max_steps),
            audits=AuditPlan(on_alarm="continue"),
            num_envs=4,
            out=practice,
        )
    )
    rates = {}
    for name, run in (("stage_1", sft), ("stage_2", practice)):
        evaluation = nearer.evaluate(
            EvalConfig(
                checkpoint=run,
                env=env,
                env_settings=settings,
                episodes=40,
                max_steps=max_steps,
                num_envs=4,
                videos=1,
                out=run / "eval",
            )
        )
        rates[name] = str(evaluation.success)
    main(["report", str(sft), str(practice), "--out", str(folder / "report.html")])
    found = {"demonstrations": f"{successful} of {episodes}", **rates}
    print(json.dumps(found | {"report_kb": (folder / "report.html").stat().st_size // 1000}))
