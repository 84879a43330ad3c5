"""benchmarks/accelerator.py goes through all its sections on a CPU and prints one JSON line."""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "accelerator.py"
VLM_KEYS = {
    "parameters_m",
    "generate_decisions_per_s_4",
    *(
        f"{adapt}_{key}"
        for adapt in ("lora", "full")
        for key in (
            "decisions_per_s_1",
            "decisions_fraction_of_peak_4",
            "decisions_memory_gib",
            "over_generate_4",
            "encoded_frames_per_s",
            "sft_samples_per_s",
            "sft_fraction_of_peak",
            "sft_memory_gib",
        )
    ),
}
KEYS: dict[str, set[str]] = {
    "agreement": {
        "tolerance_bfloat16_log_prob",
        "smolvlm_full_bfloat16_loss_in_training_difference",
        "paligemma_lora_bfloat16_log_prob_difference",
        "agrees",
    },
    "smolvlm_256m": VLM_KEYS,
    "smolvlm_2b": VLM_KEYS,
    "paligemma_3b": VLM_KEYS,
    "ranks": {"backend", "one_samples_per_s", "ddp_samples_per_s", "ddp_loss_difference"},
    "stage_two": {"device_frames_per_s_4", "device_practice_env_steps_per_s"},
    "pretraining": {
        "times_cpu_budget",
        "new_named_px_median",
        "shipped_perception_wrong_first",
        "new_perception_wrong_first",
    },
}
SENTENCES = ("skipped", "stopped", "failed")


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(BENCHMARK), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


def test_accelerator_tiny_measures_everything_and_keeps_it(tmp_path: Path) -> None:
    ran = benchmark("--tiny", "--out", str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    results: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    assert results["device"] == "cpu"
    assert results["peak_tflops"] > 0
    for section, keys in KEYS.items():
        measured = results[section]
        said = {key: value for key, value in measured.items() if key.endswith(SENTENCES)}
        assert not said, f"{section}: {said}"
        assert not keys - measured.keys(), section
    assert results["agreement"]["agrees"]
    assert results["ranks"]["ddp_agrees"]
    assert results["stage_two"]["peak_px_p99_difference"] == 0  # the device is the CPU here
    assert json.loads((tmp_path / "accelerator.json").read_text()) == results
    assert (tmp_path / "weights" / "pointing.safetensors").exists()


@pytest.fixture
def bench_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARK.parent))
    return importlib.import_module("bench")


def test_accelerator_section_out_of_time_or_failing_keeps_what_it_measured(
    bench_module: ModuleType,
) -> None:
    def too_long() -> Iterator[tuple[str, float]]:
        yield "first", 1.0
        time.sleep(60)
        yield "second", 2.0

    def failing() -> Iterator[tuple[str, float]]:
        yield "first", 1.0
        raise ValueError("no room\nat all")

    stopped: dict[str, object] = {}
    bench_module.measure_within(0.3, too_long(), stopped.__setitem__)
    assert stopped.keys() == {"first", "stopped"}
    failed: dict[str, object] = {}
    bench_module.measure_within(60, failing(), failed.__setitem__)
    assert failed == {"first": 1.0, "failed": "ValueError: no room"}
