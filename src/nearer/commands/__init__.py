"""What each command does: it puts data, model, env and loop together, and has no logic of its own.

collect_demonstrations   env and its demonstrator   -> LeRobotDataset
run_sft                  data set                   -> run: policy, reward, calibration
run_improve              Stage-1 run and env        -> run: better policy, its episodes
run_eval                 checkpoint and env         -> eval_info.json
"""

from nearer.commands.collect import collect_demonstrations
from nearer.commands.eval import read_evaluation, run_eval
from nearer.commands.improve import run_improve
from nearer.commands.runs import saved_config
from nearer.commands.sft import run_sft

__all__ = [
    "collect_demonstrations",
    "read_evaluation",
    "run_eval",
    "run_improve",
    "run_sft",
    "saved_config",
]
