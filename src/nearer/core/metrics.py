"""A record of metrics: what loops log and runs keep, a line of metrics.jsonl each."""

from collections.abc import Mapping

Metric = float | int | str | None


Record = Mapping[str, Metric]
"""Metric name -> value, with `step`; names are grouped by slash, as in sft/loss_bc."""
