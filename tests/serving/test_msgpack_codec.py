"""Messages in msgpack: both sides read what the other packs; hostile bytes get a sentence."""

from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearer.core.errors import MessageError
from nearer.serving.msgpack_codec import DTYPES, pack, unpack
from nearer.serving.request import read_request
from serving_helpers import (
    OLD_CLIENT,
    POINT_MASS,
    bare_connection,
    mlp,
    served,
    serving,
    state_message,
)

msgpack_numpy = pytest.importorskip("openpi_client.msgpack_numpy")

pytestmark = OLD_CLIENT


def nested_lists(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


def array(data: object, dtype: object, shape: object, **more: object) -> bytes:
    pairs = {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}
    return msgpack.packb({"x": pairs | {key.encode(): value for key, value in more.items()}})


HOSTILE = {
    "object dtype": (array(b"\0" * 8, "|O", [1]), "dtype of an array must be one of"),
    "void dtype": (array(b"\0" * 8, "V8", [1]), "dtype"),
    "structured dtype": (array(b"\0" * 8, [["a", "<f4"]], [2]), "dtype"),
    "foreign byte order": (array(b"\0" * 8, ">f8", [1]), "dtype"),
    "shape beyond the bytes": (array(b"\0" * 8, "<f4", [1 << 30]), "must come with 4294967296"),
    "shape that overflows": (array(b"\0" * 8, "<f4", [1 << 30] * 4), "must come with"),
    "negative shape": (array(b"\0" * 8, "<f4", [-2]), "shape of an array"),
    "shape of truth": (array(b"\0" * 4, "<f4", [True]), "shape of an array"),
    "too many axes": (array(b"\0" * 4, "<f4", [1] * 5), "shape of an array"),
    "shape no list": (array(b"\0" * 4, "<f4", 1), "shape of an array"),
    "text as data": (array("abcd", "<f4", [1]), "must come with 4 bytes, got str"),
    "number out of range": (
        msgpack.packb({"x": {b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}}),
        "must fit uint8",
    ),
    "extension": (msgpack.packb({"x": msgpack.ExtType(5, b"abc")}), "must be msgpack, got"),
    "empty extension": (b"\x81\xa1x\xc7\x00\x05", "extension"),
    "timestamp": (msgpack.packb({"x": msgpack.Timestamp(1)}), "must be msgpack|extension"),
    "depth": (nested_lists(100_000), "must be msgpack"),
    "long list": (msgpack.packb({"x": list(range(257))}), "must be msgpack, got: 257"),
    "many values": (
        msgpack.packb({f"{i}": [[0] * 250] * 2 for i in range(140)}), "at most 65536 values"
    ),
    "long text": (msgpack.packb({"prompt": "x" * 5000}), "must be msgpack, got: 5000"),
    "no map": (msgpack.packb([1, 2]), "must be a map"),
    "array as message": (msgpack.packb(msgpack.unpackb(array(b"", "<f4", [0]))["x"]), "a map"),
    "names of bytes": (msgpack.packb({b"x": 1}), "names in a message must be text"),
    "number as name": (msgpack.packb({1: 1}), "must be msgpack"),
    "cut short": (pack(state_message())[:-3], "must be msgpack"),
    "more behind": (pack(state_message()) + b"\x00", "must be msgpack"),
    "claims a huge list": (b"\xdd\xff\xff\xff\xff", "must be msgpack"),
    "no utf-8": (b"\x81\xa1x\xa1\xff", "must be msgpack"),
    "nothing": (b"", "must be msgpack"),
    "noise": (bytes(range(256)), "must be"),
}  # fmt: skip


def test_unpack_hostile_message_is_refused_and_the_connection_goes_on() -> None:
    with serving(served(mlp())) as port, bare_connection(port) as connection:
        for name, (message, sentence) in HOSTILE.items():
            connection.send(message)
            response = connection.recv()
            assert isinstance(response, str), name
            assert len(response) < 600, name
            with pytest.raises(MessageError, match=sentence):
                unpack(message)
        connection.send("observation")
        assert "must be msgpack in a binary frame" in connection.recv()
        connection.send(pack(state_message()))
        assert np.shape(unpack(connection.recv())["actions"]) == (1, 2)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_unpack_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MessageError, match=" must "):
        read_request(unpack(data), POINT_MASS, ())


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(sorted(DTYPES)),
    st.lists(st.integers(0, 3), max_size=4),
    st.floats(-100, 100) | st.booleans() | st.integers(-100, 100) | st.text(max_size=20),
)
def test_pack_and_unpack_of_arrays_agree_with_openpis_client(
    dtype: str, shape: list[int], value: Any
) -> None:
    values = np.array(np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2, dtype=dtype)
    message = {"x": values, "nested": {"y": value}}
    for written, read in (
        (pack(message), msgpack_numpy.unpackb),
        (msgpack_numpy.packb(message), unpack),
    ):
        message_read = read(written)
        assert message_read["x"].dtype == values.dtype
        assert np.array_equal(message_read["x"], values)
        assert message_read["nested"] == {"y": value}
    assert unpack(msgpack_numpy.packb({"x": np.float32(0.5)})) == {"x": 0.5}


def test_pack_unknown_type_is_refused() -> None:
    with pytest.raises(TypeError, match="must hold text, numbers and arrays, got set"):
        pack({"x": {1}})
