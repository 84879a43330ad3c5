"""Models on the hub by their name: what is downloaded, and which names mean the hub."""

from pathlib import Path

import huggingface_hub
import pytest

from nearer.runs.hub import local_run


def test_local_run_hub_id_downloads_json_and_safetensors_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads: list[tuple[str, str | None, list[str]]] = []

    def snapshot(
        name: str, *, repo_type: str, revision: str | None, allow_patterns: list[str]
    ) -> str:
        assert repo_type == "model"
        downloads.append((name, revision, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert local_run(Path("user/name")) == tmp_path
    assert local_run(Path("user/name@v1.0")) == tmp_path
    patterns = ["*.json", "*.safetensors"]
    assert downloads == [("user/name", None, patterns), ("user/name", "v1.0", patterns)]


@pytest.mark.parametrize("name", ["one", "/a/b", "a/b/c", "../up", "a/..", ".a/b", "a b/c", "a/b@"])
def test_local_run_other_name_is_unchanged(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    assert local_run(Path(name)) == Path(name)


def test_local_run_existing_folder_is_preferred_to_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user/name").mkdir(parents=True)
    assert local_run(Path("user/name")) == Path("user/name")
