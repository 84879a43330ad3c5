"""Settings of `nearer pretrain`; they stand beside the pretraining code, which records them."""

from nearer.models.pointing.pretraining.settings import PretrainConfig

__all__ = ["PretrainConfig"]
