"""A robot whose vendor's package is not installed."""

import no_such_vendor  # noqa: F401
