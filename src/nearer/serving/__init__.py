"""A policy behind openpi's websocket protocol: `nearer serve`, for robots with openpi's client.

wire.py       bytes of strangers <-> dictionaries of numbers, text and arrays, within limits
question.py   a message -> one observation that fits the checkpoint
served.py     the models, and what is remembered of each robot
server.py     connections: token, limits, turns

On connection the server sends what it is; then every message is an observation and is answered by
a message with `actions`, or by a text that says what is wrong with it.
"""
