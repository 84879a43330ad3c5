"""The steps of a recipe, each run or resumed unless its result is on disk."""

import signal
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from nearer.commands.adapt import run_adapt
from nearer.commands.collect import collect_demonstrations
from nearer.commands.eval import run_eval
from nearer.commands.improve import run_improve
from nearer.commands.sft import run_sft
from nearer.configs.adapt import AdaptConfig
from nearer.configs.collect import CollectConfig
from nearer.configs.eval import EvalConfig
from nearer.core.callbacks import ProgressCallback
from nearer.core.errors import NearerError
from nearer.core.memory import keep_freed_memory
from nearer.datasets.lerobot.reader import open_dataset
from nearer.evaluation.eval_info import read_eval_info
from nearer.evaluation.success import Evaluation
from nearer.runs.files import write_text
from nearer.runs.metrics import number, read_metrics
from nearer.runs.run import is_finished
from nearer.studies.recipe import Recipe

_RERUN_ADVICE = "run nearer reproduce again"


def ensure_demonstrations(collect: CollectConfig, on_progress: ProgressCallback) -> int:
    """Collect demonstrations unless they are there, and return their number."""
    data = collect.out
    if not (data / "COMPLETE").exists():
        begun = (data / "run.json").exists()
        collect_demonstrations(replace(collect, resume=begun), on_progress)
        (data / "COMPLETE").touch()
    return open_dataset(data).info.total_episodes


def ensure_sft(recipe: Recipe, on_progress: ProgressCallback) -> None:
    """Run or resume Stage 1 of a recipe, unless it is finished."""
    sft = recipe.sft
    if not is_finished(sft.out):
        run_sft(replace(sft, resume=(sft.out / "run.json").exists()), on_progress)


def ensure_practice(recipe: Recipe, on_progress: ProgressCallback) -> int:
    """Run or resume Stage 2 of a recipe, unless it is finished; return its number of episodes."""
    practice = recipe.improve
    if not is_finished(practice.out):
        run_improve(replace(practice, resume=(practice.out / "run.json").exists()), on_progress)
    return int(number(read_metrics(practice.out)[-1]["practice/episodes"]))


def ensure_adapted(config: AdaptConfig, on_progress: ProgressCallback) -> Path:
    """Adapt a model unless that is done, and return its folder."""
    if not (config.out / "model.safetensors").exists():
        run_adapt(config, on_progress)
    return config.out


def load_or_run_eval(config: EvalConfig, on_progress: ProgressCallback) -> Evaluation:
    """Return an evaluation from disk, or run it."""
    document = (config.out or config.checkpoint / "eval") / "eval_info.json"
    if not document.exists():
        return run_eval(config, on_progress)
    return read_eval_info(document, _RERUN_ADVICE).evaluation


@contextmanager
def evaluated_beside(config: EvalConfig) -> Generator[None]:
    """Run an evaluation in a process of its own, beside the block, and wait for it at the end.

    `load_or_run_eval` then reads it. One that fails leaves nothing to read: it is run again there,
    and says why. The process ends with this one.
    """
    process = get_context("spawn").Process(target=_evaluate_silently, args=(config,), daemon=True)
    process.start()
    try:
        yield
    except BaseException:
        process.terminate()
        raise
    finally:
        process.join()


def _evaluate_silently(config: EvalConfig) -> None:
    for asks_to_stop in (signal.SIGINT, signal.SIGHUP):  # the other process's to answer
        signal.signal(asks_to_stop, signal.SIG_IGN)
    keep_freed_memory()
    with suppress(NearerError):
        run_eval(config)


def eval_of_checkpoint(
    recipe: Recipe, checkpoint: Path, on_progress: ProgressCallback
) -> Evaluation:
    """Return the evaluation of one checkpoint of a recipe's Stage 2, from disk or run now.

    That of the policy that the run kept is the recipe's own evaluation.
    """
    run = recipe.improve.out
    config = recipe.eval_improve
    if checkpoint.resolve() != (run / "checkpoints" / "policy").resolve():
        out = run / f"eval-{checkpoint.resolve().name}"
        config = replace(config, checkpoint=checkpoint, out=out)
    return load_or_run_eval(config, on_progress)


def write_files(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files by name, each whole or not at all."""
    for name, text in texts.items():
        write_text(folder / name, text)
