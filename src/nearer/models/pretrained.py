"""Models by name: a run, a folder or a hub id to a model, and a model to a folder or the hub.

huggingface_hub's own ModelHubMixin is not used: it rebuilds a model from the arguments of its
class's constructor and writes config.json of them, where ours describes the model, names its class
and carries the hash of the normalisation that loading checks.
"""

import tempfile
from pathlib import Path
from typing import Literal

from nearer.algorithm.model import FoundationModel
from nearer.models.factory import build_model
from nearer.runs.checkpoint import load_model, save_checkpoint
from nearer.runs.hub import check_hub_id, upload


def from_pretrained(
    name: str | Path, which: Literal["policy", "reward"] = "policy"
) -> FoundationModel:
    """Return the policy or the reward model of a run or of the hub, ready to use.

    Args:
        name: a run, a checkpoint, a folder of `save_pretrained`, or a hub id, user/name or
            user/name@REVISION.
        which: model of the run.

    Raises:
        CheckpointError: nothing complete is there, or the hub cannot be reached.
    """
    return load_model(Path(name), build_model, which)


def save_pretrained(model: FoundationModel, folder: Path) -> Path:
    """Write config.json, model.safetensors and what else the model needs, and return the folder.

    Raises:
        CheckpointError: the disk does not take it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving") as temporary:
        checkpoint = Path(temporary) / "0"
        save_checkpoint(checkpoint, model, None)
        for path in sorted((checkpoint / "pretrained_model").iterdir()):
            path.replace(folder / path.name)
    return folder


def push_to_hub(
    model: FoundationModel, name: str, *, private: bool = False, card: str | None = None
) -> str:
    """Upload a model to the hub and return its address; `nearer push` uploads a whole run.

    Args:
        model: what is uploaded.
        name: user/name.
        private: only its owner sees it.
        card: README.md; None: one that says how to load it, and no more.

    Raises:
        ConfigError: the name is none, the hub cannot be reached or refuses.
    """
    check_hub_id(name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = save_pretrained(model, Path(temporary) / "model")
        (folder / "README.md").write_text(card or _bare_card(name))
        return upload(folder, name, private=private)


def _bare_card(name: str) -> str:
    return f"""---
library_name: nearer
pipeline_tag: robotics
tags:
- robotics
---

# {name}

```python
import nearer

policy = nearer.from_pretrained("{name}")
```

Nothing is known here of its data and its success.
"""
