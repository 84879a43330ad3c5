"""What nearer eval-reward measured, as Markdown: for the terminal, the report and the card."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from nearer.core.intervals import Rate
from nearer.evaluation.audit import Audit
from nearer.evaluation.detector_metrics import precision_of, recall_of

_LEVELS = (0.1, 0.5, 0.9)
_AP, _RANK, _AUC = "average_precision", "rank_correlation", "success_auc"


def trust_table(document: Mapping[str, Any]) -> str:
    """Return a calibration.json of nearer eval-reward as Markdown.

    Args:
        document: as `run_eval_reward` returns it.
    """
    parts = [_head(document)]
    for name, source in document["sources"].items():
        parts += [f"### {name}", _about(source), _slices(source)]
        parts += [_distances("true", source["by_distance"])]
        parts += [_distances("predicted", source["by_predicted"])]
        parts += [failures_line(source["failures"]), _reliability(source), _spread(source)]
    comparisons = document["comparisons"]
    if "none" in comparisons:
        parts.append(f"No comparisons: {comparisons['none']}.")
    else:
        parts += [
            _comparisons(name, rows, comparisons) for name, rows in comparisons["sources"].items()
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(document: Mapping[str, Any]) -> str:
    threshold, own = document["threshold_steps"], document["run_threshold_steps"]
    unit = document["unit"]
    lines = [f"## Trust in {document['checkpoint']}", f"Trained on: {document['taught']}."]
    if threshold is None:
        lines.append("No threshold is recommended: no labels are the truth.")
    else:
        lines.append(f"Recommended threshold s = {threshold:g} {unit}: {document['rule']}.")
    if unit != "steps":
        lines.append(f"All steps below are {unit}.")
    if own is not None:
        lines.append(f"Its run was calibrated to s = {own:g}.")
    return "\n".join([lines[0], "", *lines[1:]])


def _about(source: Mapping[str, Any]) -> str:
    found = source["rank_correlation"]
    words = [f"Labels: {source['labels']}."]
    if found["episodes"]:
        spread = "[{:.3f}, {:.3f}] ".format(*found["ci95"]) if found["ci95"] else ""
        words.append(
            "Rank correlation of d with the true steps left, along an episode: "
            f"{found['mean']:.3f} {spread}(n = {found['episodes']} fulfilled episodes)."
        )
    halves = source["halves"]
    if halves["chosen"]:
        where = " and ".join(f"{one['precision']:.2f}" for one in halves["chosen"])
        words.append(
            "Threshold chosen on one half, measured on the other: precision "
            f"{_rate(precision_of(halves))}, recall {_rate(recall_of(halves))}; where they were "
            f"chosen they had a precision of {where}."
        )
    audits = source["remarks"].get("audits")
    if audits:
        pooled = Audit(**audits)
        words.append(
            f"Audits in practice: precision {_rate(pooled.precision)}, recall "
            f"{_rate(pooled.recall)}."
        )
    return " ".join(words)


def _slices(source: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            f"{one['episodes']}",
            f"{one['fulfilled']}",
            _number(one["mean_absolute_error_steps"], 1),
            _number(one["bias_steps"], 1, sign=True),
            _number(one[_RANK], 2),
            _rate(precision_of(one)),
            _rate(recall_of(one)),
        ]
        for name, one in source["slices"].items()
    ]
    head = ["slice", "episodes", "fulfilled", "error, steps", "bias", "rank"]
    return _table([*head, "precision at s", "recall at s"], rows)


def _distances(kind: str, groups: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            f"{one['from_steps']} to {one['to_steps']}",
            f"{one['frames']:,}",
            _number(one["mean_absolute_error_steps"], 1),
            _number(one["bias_steps"], 1, sign=True),
            _number(one["spread_steps"], 1),
        ]
        for one in groups
    ]
    return _table([f"{kind} steps left", "frames", "error, steps", "bias", "spread"], rows)


def failures_line(found: Mapping[str, Any]) -> str:
    """Return what the model says of episodes that were never fulfilled; "" without any."""
    if found["promised"] is None:
        return ""
    low, middle, high = found["lowest_steps_to_go"]
    return (
        f"{found['episodes']} failures: d came down to {middle:.1f} steps (10 to 90 %: {low:.1f} "
        f"to {high:.1f}); it gave {found['promised']:.2f} on average to being done in the steps "
        f"that were left, where successes got {_number(found['promised_of_successes'], 2)}."
    )


def _reliability(source: Mapping[str, Any]) -> str:
    if source["steps_to_go"] is None:
        return ""
    coverage = source["steps_to_go"]["coverage"]
    told = dict(zip(coverage["nominal"], coverage["observed"], strict=True))
    parts = [f"{100 * told[level]:.0f} % below the {100 * level:.0f} % one" for level in _LEVELS]
    return f"Of the true steps left, among the predicted quantiles: {', '.join(parts)}."


def _spread(source: Mapping[str, Any]) -> str:
    found = source["spread"]
    if found is None:
        return ""
    rows = [
        [
            _number(one["spread_steps"], 1),
            _number(one["mean_absolute_error_steps"], 1),
            f"{one['frames']:,}",
        ]
        for one in found["groups"]
    ]
    words = (
        f"Spread against error: rank correlation {found['rank_correlation']:.2f}; among frames "
        f"that look equally far {found['rank_correlation_equally_far']:.2f}."
    )
    return f"{words}\n\n{_table(['spread, steps', 'error, steps', 'frames'], rows)}"


def _comparisons(name: str, rows: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    title = (
        f"### Compared on {name}\n\nTrained on the same {about['demonstrations']} demonstrations, "
        f"{about['updates']} updates, mean of {about['seeds']} seeds."
    )
    body = [_compared(baseline, one) for baseline, one in rows.items()]
    head = ["answer", "average precision", "gap, 95 %", "rank", "told from failures"]
    return f"{title}\n\n{_table([*head, 'precision', 'recall'], body)}"


def _compared(baseline: str, one: Mapping[str, Any]) -> list[str]:
    seeds: Sequence[Mapping[str, Any]] = one["seeds"]
    gap = "-"
    if "gap" in one:
        low, high = one["gap"]["ci95"]
        gap = f"{-one['gap']['mean']:+.3f} [{-high:+.3f}, {-low:+.3f}]"
    return [
        baseline,
        _mean(seeds, _AP),
        gap,
        _mean(seeds, _RANK),
        _mean(seeds, _AUC),
        _pooled([precision_of(row) for row in seeds]),
        _pooled([recall_of(row) for row in seeds]),
    ]


def _mean(seeds: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [row[name] for row in seeds if row[name] is not None]
    return f"{fmean(values):.3f}" if values else "-"


def _pooled(rates: Sequence[Rate]) -> str:
    """Return the mean rate of seeds: they judge the same episodes, so n is not their sum."""
    known = [one.value for one in rates if one.total]
    return f"{fmean(known):.3f}" if known else "-"


def _rate(rate: Rate) -> str:
    return str(rate) if rate.total else "-"


def _number(value: float | None, digits: int, *, sign: bool = False) -> str:
    return "-" if value is None else f"{value:{'+' if sign else ''}.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
