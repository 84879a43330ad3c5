"""Gymnasium's forms of what an env returns: dictionaries of arrays and of Python values."""

from typing import Any

RawObservation = dict[str, Any]
"""An array by name, under lerobot's keys; `pixels` is a dictionary of images by camera."""
Info = dict[str, Any]
"""`is_success` and more at each step, `instruction` at a reset; arrays in a vectorised env."""
Options = dict[str, Any] | None
"""What `reset` may be given besides a seed."""
