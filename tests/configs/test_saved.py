import json
from pathlib import Path
from typing import Any

import pytest

from nearer.configs.improve import ImproveConfig
from nearer.configs.saved import absolute, config_document, read_config
from nearer.configs.sft import SFTConfig
from nearer.core.errors import ConfigError


@pytest.mark.parametrize(
    "config",
    [
        SFTConfig(data="user/demonstrations", out=Path("sft"), fraction=0.25),
        ImproveConfig(run=Path("sft"), out=Path("practice"), threshold=4.0),
    ],
)
def test_config_written_as_json_reads_back_equal(config: SFTConfig | ImproveConfig) -> None:
    document = json.loads(json.dumps(config_document(config)))
    assert read_config(type(config), document) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "got: colour must be absent"),
        ({"fraction": "much"}, 'got: fraction must be a finite number, got "much"'),
        ({"fraction": 2.0}, "got: --fraction must"),
        ({"model": None}, "got: model must be a text, got null"),
        ({"training": [1]}, r"got: training must be an object, got \[1\]"),
    ],
)
def test_read_config_of_a_changed_document_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    document = {**config_document(SFTConfig(data="demonstrations", out=Path("sft"))), **changes}
    with pytest.raises(ConfigError, match=message):
        read_config(SFTConfig, document)


def test_read_config_without_a_setting_is_refused_though_it_has_a_default() -> None:
    document = dict(config_document(SFTConfig(data="demonstrations", out=Path("sft"))))
    del document["cache"]
    with pytest.raises(ConfigError, match="got: no cache; continue the run with the version"):
        read_config(SFTConfig, document)


def test_absolute_config_means_the_same_in_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("data", "sft", "mlp"):
        (tmp_path / folder).mkdir()
    sft = absolute(SFTConfig(data="data", out=Path("run"), cache=Path("cache"), model="mlp"))
    assert (sft.data, sft.out) == (str(tmp_path / "data"), tmp_path / "run")
    assert (sft.cache, sft.model) == (tmp_path / "cache", "mlp")
    improve = absolute(ImproveConfig(run=Path("sft"), out=Path("run"), reward=Path("user/name")))
    assert (improve.run, improve.reward) == (tmp_path / "sft", Path("user/name"))
    on_the_hub = absolute(SFTConfig(data="user/data", out=Path("run"), model="user/name"))
    assert (on_the_hub.data, on_the_hub.model) == ("user/data", "user/name")
    assert absolute(ImproveConfig(out=Path("run"))).run == Path()
