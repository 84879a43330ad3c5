"""Other clients' keys: renames, openpi's robots, channels first."""

from typing import Any

import numpy as np
import pytest

from nearer.core.action_chunks import Chunking
from nearer.core.errors import ConfigError, MessageError
from nearer.core.spaces import Camera, Spaces
from nearer.models.factory import new_model
from nearer.models.settings import SmallVLAConfig
from nearer.serving.client_format import ClientFormat, keys_by_name
from nearer.serving.client_profiles import PROFILES
from nearer.serving.image_resizing import filters_of
from nearer.serving.msgpack_codec import pack, unpack
from nearer.serving.request import read_request
from nearer.serving.session import ServedPolicy
from serving_helpers import INSTRUCTIONS, OLD_CLIENT, POINT_MASS, SEED, client, mlp, serving

pytestmark = OLD_CLIENT

FRONT = (Camera("front", 4, 6),)


def droid_message() -> dict[str, Any]:
    """Return a message with the keys, sizes and types of openpi's examples/droid/main.py."""
    rng = np.random.default_rng(0)
    return {
        "observation/exterior_image_1_left": rng.integers(0, 255, (4, 6, 3), dtype=np.uint8),
        "observation/wrist_image_left": rng.integers(0, 255, (4, 6, 3), dtype=np.uint8),
        "observation/joint_position": np.linspace(-1, 1, 7),
        "observation/gripper_position": np.array([0.25]),
        "prompt": "push the cube",
    }


def aloha_message() -> dict[str, Any]:
    """Return a message with the keys, sizes and types of openpi's examples/aloha_real/env.py."""
    rng = np.random.default_rng(0)
    cameras = ("cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist")
    return {
        "state": np.linspace(-1, 1, 14),
        "images": {name: rng.integers(0, 255, (3, 4, 6), dtype=np.uint8) for name in cameras},
    }


@pytest.mark.parametrize(
    ("exterior", "wrist"),
    [("exterior_image_1_left", "wrist_image_left"), ("exterior_1_left", "wrist_left")],
)
def test_read_request_of_openpis_droid_client(exterior: str, wrist: str) -> None:
    cameras = (Camera(exterior, 4, 6), Camera(wrist, 4, 6))
    spaces = Spaces(agent_pos=8, environment_state=0, action=8, cameras=cameras)
    sent = droid_message()
    client_format = ClientFormat(keys=keys_by_name("droid", (), cameras))
    request = read_request(unpack(pack(sent)), spaces, cameras, client_format)
    joints = [*np.linspace(-1, 1, 7), 0.25]  # the gripper comes last
    assert np.array_equal(request.observation.agent_pos[0], np.array(joints, np.float32))
    images = request.observation.images
    assert np.array_equal(images[exterior][0], sent["observation/exterior_image_1_left"])
    assert np.array_equal(images[wrist][0], sent["observation/wrist_image_left"])
    assert request.instruction == "push the cube"


def test_read_request_of_openpis_aloha_client_turns_its_images() -> None:
    cameras = (Camera("cam_high", 4, 6), Camera("cam_left_wrist", 4, 6))
    spaces = Spaces(agent_pos=14, environment_state=0, action=14, cameras=cameras)
    sent = aloha_message()
    client_format = ClientFormat(
        keys=keys_by_name("aloha", (), cameras), channels_first=PROFILES["aloha"].channels_first
    )
    request = read_request(unpack(pack(sent)), spaces, cameras, client_format)
    assert np.array_equal(request.observation.agent_pos[0], sent["state"].astype(np.float32))
    for camera in ("cam_high", "cam_left_wrist"):
        image = request.observation.images[camera][0]
        assert image.shape == (4, 6, 3)
        assert np.array_equal(image[..., 1], sent["images"][camera][1])
    assert request.instruction is None


@pytest.mark.parametrize("gripper", [0.25, [0.25], np.float32(0.25), np.array([0.25]), 1])
def test_read_request_renamed_numbers_are_joined_in_the_order_of_the_flags(gripper: Any) -> None:
    renames = [("arm/joints", "agent_pos"), ("gripper", "agent_pos"), ("goal", "environment_state")]
    client_format = ClientFormat(keys=keys_by_name(None, renames, ()))
    message = {"arm": {"joints": np.arange(3)}, "gripper": gripper, "goal": [1, 2]}
    request = read_request(unpack(pack_numbers(message)), POINT_MASS, (), client_format)
    last = float(np.ravel(gripper)[0])
    assert request.observation.agent_pos.tolist() == [[0, 1, 2, last]]
    assert request.observation.environment_state.tolist() == [[1, 2]]


def pack_numbers(message: dict[str, Any]) -> bytes:
    """Return a message as bytes, numpy's numbers as openpi's client packs them."""
    msgpack_numpy = pytest.importorskip("openpi_client.msgpack_numpy")
    return msgpack_numpy.packb(message)


def test_read_request_renamed_prompt_and_reset_may_be_left_out() -> None:
    client_format = ClientFormat(
        keys=keys_by_name(None, [("task", "prompt"), ("start", "reset")], ())
    )
    numbers = {"observation.state": [0.0] * 4, "observation.environment_state": [0.0] * 2}
    request = read_request({**numbers, "task": "go", "start": True}, POINT_MASS, (), client_format)
    assert (request.instruction, request.reset) == ("go", True)
    request = read_request(numbers, POINT_MASS, (), client_format)
    assert (request.instruction, request.reset) == (None, False)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ({"arm": {"other": 1}}, r"must have arm/joints, which is read as .*, got \['arm/other'\]"),
        ({"arm": {"joints": "x"}}, "arm/joints must be numbers, which are part of .* 1 characters"),
        ({"arm": {"joints": np.zeros((2, 2))}}, r"must be numbers.*float64 of shape \(2, 2\)"),
        ({"arm": {"joints": True}}, "must be numbers"),
        ({"arm": {"joints": [1.0]}, "image": None}, "must have image, which is read as"),
        ({"arm": {"joints": [1.0, 2.0]}, "image": np.zeros((4, 6, 3), np.uint8)}, "must be 1 num"),
        ({"arm": 3, "image": 3}, "must have arm/joints"),
    ],
)
def test_read_request_of_a_renamed_key_that_is_wrong_is_refused(
    message: dict[str, Any], sentence: str
) -> None:
    spaces = Spaces(agent_pos=1, environment_state=0, action=1, cameras=FRONT)
    renames = [("arm/joints", "agent_pos"), ("image", "front")]
    client_format = ClientFormat(keys=keys_by_name(None, renames, FRONT))
    with pytest.raises(MessageError, match=sentence):
        read_request(message, spaces, FRONT, client_format)


def test_keys_by_name_rename_replaces_the_clients_keys_of_that_name() -> None:
    renames = [
        ("observation/exterior_image_1_left", "front"),
        ("observation/joint_position", "observation.state"),
    ]
    assert keys_by_name("droid", renames, FRONT) == {
        "observation.state": ("observation/joint_position",),
        "observation.images.front": ("observation/exterior_image_1_left",),
    }


@pytest.mark.parametrize(
    ("client", "renames", "sentence"),
    [
        (
            None,
            [("a", "back")],
            "one of front, agent_pos, environment_state, prompt, .* got a=back",
        ),
        (None, [("a", "front"), ("b", "front")], "must give front one key .*got a and b; leave"),
        (None, [("a", "agent_pos"), ("a", "agent_pos")], "several different ones.*got a and a"),
        ("aloha", [], "--client aloha must send .* got none for front: it sends images/cam_high"),
        ("droid", [], "add --rename KEY=front with the one that shows the same"),
    ],
)
def test_keys_by_name_what_does_not_fit_the_checkpoint_is_refused(
    client: str | None, renames: list[tuple[str, str]], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        keys_by_name(client, renames, FRONT)


@pytest.mark.parametrize(
    ("client", "fitting", "others"),
    [
        ("droid", [(10, 8)], [(9, 8), (11, 8), (10, 7)]),
        ("aloha", [(25, 14), (50, 14)], [(24, 14), (25, 7)]),
    ],
)
def test_profile_fits_the_answers_that_the_published_client_takes(
    client: str, fitting: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    assert all(PROFILES[client].fits(*answer) for answer in fitting)
    assert not any(PROFILES[client].fits(*answer) for answer in others)


def test_openpis_client_drives_a_checkpoint_by_droids_keys_and_sizes() -> None:
    cameras = (Camera("exterior_1_left", 96, 128),)
    spaces = Spaces(agent_pos=8, environment_state=0, action=8, cameras=cameras)
    settings = SmallVLAConfig(hidden=16)
    chunks = spaces.in_chunks(Chunking(chunk=10))
    model = new_model("small-vla", settings, chunks, INSTRUCTIONS, seed=0).eval()
    filters = filters_of(model, cameras)
    droid = ClientFormat(keys=keys_by_name("droid", (), cameras), filters=filters)
    sent = {**droid_message(), "prompt": INSTRUCTIONS[0]}
    sent["observation/exterior_image_1_left"] = np.full((224, 224, 3), 7, np.uint8)
    with serving(ServedPolicy(model, model, 1.0, SEED, droid)) as port, client(port) as robot:
        actions = robot.infer(sent)["actions"]
    assert actions.shape == (10, 8)
    plain = ServedPolicy(model, model, 1.0, SEED)
    same = {
        "observation.state": np.append(np.linspace(-1, 1, 7), 0.25),
        "observation.images.exterior_1_left": np.full((96, 128, 3), 7, np.uint8),
        "prompt": INSTRUCTIONS[0],
    }
    assert np.array_equal(actions, plain.respond(plain.new_session(0), same).actions)


def test_openpis_client_drives_a_checkpoint_by_alohas_keys() -> None:
    spaces = Spaces(agent_pos=14, environment_state=0, action=14)
    model = mlp(spaces.in_chunks(Chunking(chunk=25)))
    aloha = ClientFormat(keys=keys_by_name("aloha", (), ()), channels_first=True)
    with serving(ServedPolicy(model, model, 1.0, SEED, aloha)) as port, client(port) as robot:
        assert robot.infer(aloha_message())["actions"].shape == (25, 14)
        without_state = {"images": aloha_message()["images"]}
        with pytest.raises(RuntimeError, match="must have state, which is read as observation"):
            robot.infer(without_state)
