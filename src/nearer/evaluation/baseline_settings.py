"""How the baselines of the reward report are made and trained."""

from dataclasses import dataclass

from nearer.core.settings import check_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineSettings:
    """Size and training of the baselines: as small-vla's two trunks, unless said otherwise.

    Attributes:
        hidden: units of each of two hidden layers.
        word_width: numbers that the words of an instruction become.
        dropout: probability that a hidden unit is left out.
        embedding: numbers of the embedding whose distances are one of the baselines.
        batch_size: frames an update.
        learning_rate: of AdamW, constant.
        weight_decay: of AdamW.
        max_gradient_norm: longer gradients are scaled down to it.
    """

    hidden: int = 256
    word_width: int = 4
    dropout: float = 0.2
    embedding: int = 32
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    max_gradient_norm: float = 10.0

    def __post_init__(self) -> None:
        check_settings(
            self,
            prefix="baselines.",
            hidden="[1, inf)",
            word_width="[1, inf)",
            dropout="[0, 1)",
            embedding="[1, inf)",
            batch_size="[1, inf)",
            learning_rate="(0, inf)",
            weight_decay="[0, inf)",
            max_gradient_norm="(0, inf)",
        )
