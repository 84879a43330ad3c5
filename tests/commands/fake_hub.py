"""A hub without a network, which keeps models as huggingface_hub does."""

import fnmatch
import shutil
from pathlib import Path

from huggingface_hub import constants

from nearer.models.factory import build_model
from nearer.runs.checkpoint import load_model, weights_hash

NAME = "user/point-mass"
REVISION = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """HfApi as far as nearer needs it: keeps repositories in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.private: list[bool] = []

    def __call__(self) -> "FakeHub":
        return self

    def create_repo(self, name: str, *, repo_type: str, private: bool, exist_ok: bool) -> str:
        assert repo_type == "model"
        assert exist_ok
        (self.root / name).mkdir(parents=True, exist_ok=True)
        self.private.append(private)
        return f"https://hub.invalid/{name}"

    def upload_folder(
        self,
        *,
        repo_id: str,
        repo_type: str,
        folder_path: Path,
        commit_message: str,
        delete_patterns: list[str],
    ) -> None:
        repository = self.root / repo_id
        for name in self.files(repo_id):
            if any(fnmatch.fnmatch(name, pattern) for pattern in delete_patterns):
                (repository / name).unlink()
        shutil.copytree(folder_path, repository, dirs_exist_ok=True)

    def files(self, name: str) -> list[str]:
        repository = self.root / name
        paths = (path for path in repository.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(repository)) for path in paths)


def download(hub: FakeHub, name: str) -> None:
    """Lay a repository of the fake out as huggingface_hub keeps a snapshot of it."""
    cached = Path(constants.HF_HUB_CACHE) / ("models--" + name.replace("/", "--"))
    shutil.copytree(hub.root / name, cached / "snapshots" / REVISION)
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text(REVISION)


def hash_of(run: Path | str, link: str) -> str:
    """Return the hash of the weights of a run's policy or reward model."""
    return weights_hash(load_model(Path(run), build_model, link))
