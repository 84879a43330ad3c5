"""Meta-World's tasks: recorded by the script, then both stages as `nearer demo metaworld`."""

import json
from pathlib import Path

import pytest

import nearer.studies.metaworld as metaworld
from nearer.cli import main
from nearer.configs.reproduce import ReproduceConfig
from nearer.core.errors import ConfigError, DatasetError

EXAMPLES = Path(__file__).parents[2] / "examples" / "demonstrators"


def test_a_task_is_recorded_practised_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metaworld, "TASKS", ("push-v3",))
    monkeypatch.setattr(metaworld, "_TRIED", 12)
    config = ReproduceConfig(
        which="metaworld", out=tmp_path, seeds=(1,), demonstrators=EXAMPLES, quick=True
    )
    rows = metaworld.reproduce_metaworld(config)
    assert [(row.condition, row.stage, row.seed, row.n_episodes) for row in rows] == [
        *(("push-v3", 1, 1, 10), ("push-v3", 2, 1, 10))
    ]
    assert 0 < rows[0].demonstrations <= 12
    assert rows[1].practice_episodes > 0
    assert len(json.loads((tmp_path / "metaworld.json").read_text())) == 2
    marks = (tmp_path / "metaworld" / "push-v3" / "seed1").rglob("FINISHED")
    finished = {mark: mark.stat().st_mtime_ns for mark in marks}
    assert len(finished) == 2
    assert metaworld.reproduce_metaworld(config) == rows
    assert all(mark.stat().st_mtime_ns == time for mark, time in finished.items())


def test_recording_that_was_interrupted_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "metaworld_expert.py").write_text(
        "import sys, pathlib\n"
        f"pathlib.Path({str(tmp_path / 'said')!r}).write_text(' '.join(sys.argv[1:]))\n"
        "sys.exit(3)\n"
    )
    data = tmp_path / "out" / "metaworld" / "pick-place-v3" / "demonstrations"
    config = ReproduceConfig(which="metaworld", out=tmp_path / "out", demonstrators=tmp_path)
    sentence = r"metaworld_expert.py must record demonstrations of pick-place-v3 in .*exit status 3"
    with pytest.raises(DatasetError, match=sentence):
        metaworld.reproduce_metaworld(config)
    said = f"pick-place-v3 --episodes 60 --out {data}"
    assert (tmp_path / "said").read_text() == said
    data.mkdir(parents=True)
    (data / "run.json").touch()
    with pytest.raises(DatasetError, match=sentence):
        metaworld.reproduce_metaworld(config)
    assert (tmp_path / "said").read_text() == f"{said} --resume"


def test_what_is_missing_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ReproduceConfig(which="metaworld", out=tmp_path, demonstrators=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"--demonstrators must be .*, got .*nowhere; run it"):
        metaworld.reproduce_metaworld(config)
    monkeypatch.setattr(metaworld, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"not installed; pip install 'nearer\[metaworld\]'"):
        metaworld.reproduce_metaworld(config)


def test_the_command_ends_with_a_sentence_not_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--out", str(tmp_path), "--demonstrators", str(tmp_path), "--seeds", "0"]
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", "metaworld", *arguments])
    assert ended.value.code
    assert "--demonstrators must be the folder" in capsys.readouterr().err.replace("\n", " ")
