"""The outcome in plain words, from ``correlation.json`` alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.findings.names import describe


def verdict(correlation: Mapping[str, Any]) -> str:
    """What was chosen, what it cost and how sure that is, in a few sentences.

    The same for the terminal and for the top of the page. Without a test set it says so and
    claims nothing about real defects. Of several RUNs it speaks of all.

    Args:
        correlation: what ``correlate`` or ``correlate_together`` returns.
    """
    together = correlation.get("together")
    if together is None:
        return " ".join(_of_one(correlation))
    if together["kind"] == "seeds":
        return " ".join(_of_seeds(together, correlation["final"]["params"]))
    return " ".join(_of_runs(together))


def auroc(value: float | None) -> str:
    """An AUROC with three digits, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def points(value: float | None) -> str:
    """A difference of AUROCs in percentage points, as in ``0.3``, or a dash."""
    if value is None:
        return "–"
    return f"{100 * value:.1f}".replace("-0.0", "0.0")


def between(interval: Sequence[float] | None, say: Any = auroc) -> str:
    """`` (95 % interval .. to ..)``, or nothing where there is none."""
    if interval is None:
        return ""
    return f" (95 % interval {say(interval[0])} to {say(interval[1])})"


def _of_one(correlation: Mapping[str, Any]) -> list[str]:
    final = correlation["final"]
    tried = len(correlation["configurations"])
    said = [f"Chosen: {describe(final['params'])}."]
    if final["test_auroc"] is None:
        measured = f"image AUROC {auroc(final['pseudo_auroc'])}{between(final['pseudo_interval'])}"
        said.append(f"On the pseudo set: {measured}.")
        said += [f"There {_apart(final, tried)}."] if tried > 1 else []
        return [*said, "No real test set was scored, so nothing is known about real defects."]

    measured = f"image AUROC {auroc(final['test_auroc'])}{between(final['test_interval'])}"
    said.append(f"On the real test set: {measured}.")
    if tried == 1:
        return [*said, "No other configuration was tried."]
    cost = f"Choosing without labels cost {points(final['regret'])} points"
    scored = final["configurations"]  # those of an audit too
    if final["regret"] == 0:
        cost = f"Choosing without labels cost nothing: it is the best of the {scored} tried"
    else:
        cost += (
            f"{between(final['regret_interval'], points)} against the best of the {scored} tried"
        )
    leading = len(final["test_leading_set"])
    of = "of which" if final["configurations"] == tried else f"of the {tried} in the stages"
    if leading > 1:
        cost += f", {leading} {of} cannot be told apart"
    said.append(f"{cost}.")
    said.append(
        f"A choice at random would have cost {points(final['random_regret'])} points on average."
    )
    return [*said, f"On the pseudo set {_apart(final, tried)}."]


def _apart(final: Mapping[str, Any], tried: int) -> str:
    """How many configurations the pseudo set cannot tell from its leader."""
    leading = final["pseudo_leading_set"]
    if len(leading) == 1:
        return f"{describe(leading[0])} stands alone among the {tried} tried"
    choice = "the choice among them" if final["params"] in leading else "the choice is none of them"
    return f"{len(leading)} of the {tried} tried cannot be told apart, {choice}"


def _of_seeds(together: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
    rows, mean, std = together["rows"], together["mean"], together["std"]
    count = len(rows)
    same = sum(row["same"] for row in rows)
    said = [f"Chosen on the mean over {count} {together['noun']}: {describe(params)}."]
    said.append(f"Alone, {same} of the {count} would have chosen the same.")
    if mean["test_auroc"] is None:
        said.append(f"On the pseudo set: image AUROC {_spread(mean, std, 'pseudo_auroc', auroc)}.")
        return [*said, "No real test set was scored, so nothing is known about real defects."]
    said.append(
        f"On the real test set: image AUROC {_spread(mean, std, 'test_auroc', auroc)} over "
        f"{count} {together['noun']}; choosing without labels cost "
        f"{_spread(mean, std, 'regret', points)} points, a choice at random would "
        f"have cost {points(mean['random_regret'])} on average."
    )
    return said


def _of_runs(together: Mapping[str, Any]) -> list[str]:
    rows, choices = together["rows"], together["choices"]
    if len(choices) == 1:
        said = [f"All {len(rows)} runs chose {describe(choices[0]['params'])}."]
    else:
        each = "; ".join(f"{describe(one['params'])} ({', '.join(one['runs'])})" for one in choices)
        said = [f"The {len(rows)} runs chose differently: {each}."]
    known = [row for row in rows if row["test_auroc"] is not None]
    if len(known) < len(rows):
        missing = ", ".join(row["run"] for row in rows if row["test_auroc"] is None)
        said.append(f"No real test set was scored for {missing}.")
    if known:
        figures = "; ".join(
            f"{row['run']} {auroc(row['test_auroc'])} (cost {points(row['regret'])} points)"
            for row in known
        )
        said.append(f"Image AUROC on the real test set: {figures}.")
    return said


def _spread(mean: Mapping[str, Any], std: Mapping[str, Any], key: str, say: Any) -> str:
    return say(mean[key]) + ("" if std[key] is None else f" ± {say(std[key])}")
