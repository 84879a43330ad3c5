"""Metadata and responses as messages."""

import numpy as np

from nearer.serving.response import ActResponse, ServerMetadata


def response(**changes: object) -> ActResponse:
    values: dict[str, object] = {
        "actions": np.zeros((1, 2), np.float32),
        "log_prob": -1.5,
        "steps_to_go": 7.0,
        "steps_to_go_std": 2.0,
        "done": False,
        "infer_ms": 3.0,
    }
    return ActResponse(**(values | changes))  # type: ignore[arg-type]


def test_act_response_to_message_has_the_names_of_the_protocol() -> None:
    message = response().to_message()
    assert list(message) == [
        "actions",
        "log_prob",
        "steps_to_go",
        "steps_to_go_std",
        "done",
        "policy_timing",
    ]
    assert message["policy_timing"] == {"infer_ms": 3.0}
    assert message["done"] is False


def test_act_response_to_message_leaves_out_what_is_none() -> None:
    message = response(actions=None, log_prob=None, done=None).to_message()
    assert list(message) == ["steps_to_go", "steps_to_go_std", "policy_timing"]


def test_server_metadata_to_message_keeps_none_and_lists_image_sizes() -> None:
    metadata = ServerMetadata(
        model="mlp",
        state=4,
        environment_state=2,
        images={"front": (96, 128, 3)},
        action=2,
        chunk=1,
        control_hz=None,
        threshold_steps=None,
        robot=0,
        name=None,
        resumed=False,
        seed=3,
    )
    message = metadata.to_message()
    assert message["server"] == "nearer"
    assert message["images"] == {"front": [96, 128, 3]}
    assert message["threshold_steps"] is None
