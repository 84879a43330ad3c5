"""A policy behind openpi's websocket protocol: `nearer serve`, for robots with openpi's client.

    msgpack_codec.py  bytes of untrusted clients <-> numbers, text and arrays by name, within limits
    request.py        a message -> an observation that fits the checkpoint
    message_values.py values of a message, found and described
    client_format.py  other clients' keys -> the names of request.py
    client_profiles.py  the keys of openpi's robots
    image_resizing.py images of other sizes -> the checkpoint's
    echo.py           the marks of a request that its answer repeats
    response.py       metadata and responses -> messages
    session.py        the models, and what is remembered of each robot
    named_sessions.py robots with a name, which find their session again
    server.py         connections: token, limits, turns

On connection the server sends its metadata; then every message is an observation, and the answer is
a message with `actions`, or a text that says what is wrong with the observation.
"""
