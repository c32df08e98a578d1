"""The outcome in plain words, from ``correlation.json`` alone."""

from reports.findings.forms import Correlation, FinalFindings, Interval, Params, Together
from reports.findings.names import auroc, between, describe, points, with_spread

INTERVAL = " (95 % interval {})"


def verdict(correlation: Correlation) -> str:
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


def _of_one(correlation: Correlation) -> list[str]:
    final = correlation["final"]
    tried = len(correlation["configurations"])
    sentences = [f"Chosen: {describe(final['params'])}."]
    if final["test_auroc"] is None:
        sentences.append(_measured("pseudo", final["pseudo_auroc"], final["pseudo_interval"]))
        sentences += [f"There {_apart(final, tried)}."] if tried > 1 else []
        return [*sentences, "No real test set was scored, so nothing is known about real defects."]

    sentences.append(_measured("real test", final["test_auroc"], final["test_interval"]))
    if tried == 1:
        return [*sentences, "No other configuration was tried."]
    scored = final["configurations"]  # those off the path too
    if final["regret"] == 0:
        regret = f"cost nothing: it is the best of the {scored} tried"
    else:
        interval = between(final["regret_interval"], points, INTERVAL)
        regret = (
            f"cost {points(final['regret'])} points{interval} against the best of the "
            f"{scored} tried"
        )
    leading = len(final["test_leading_set"] or [])
    if leading > 1:
        of = "of which" if scored == tried else f"of the {tried} in the stages"
        regret += f", {leading} {of} cannot be told apart"
    sentences.append(f"Choosing without labels {regret}.")
    sentences.append(
        f"A choice at random would have cost {points(final['random_regret'])} points on average."
    )
    return [*sentences, f"On the pseudo set {_apart(final, tried)}."]


def _measured(name: str, value: float | None, interval: Interval) -> str:
    return f"On the {name} set: image AUROC {auroc(value)}{between(interval, auroc, INTERVAL)}."


def _apart(final: FinalFindings, tried: int) -> str:
    """How many configurations the pseudo set cannot tell from its leader."""
    leading = final["pseudo_leading_set"]
    if len(leading) == 1:
        return f"{describe(leading[0])} stands alone among the {tried} tried"
    choice = "the choice among them" if final["params"] in leading else "the choice is none of them"
    return f"{len(leading)} of the {tried} tried cannot be told apart, {choice}"


def _of_seeds(together: Together, params: Params) -> list[str]:
    rows, mean, std = together["rows"], together["mean"], together["std"]
    count = len(rows)
    same = sum(row["same"] for row in rows)
    sentences = [f"Chosen on the mean over {count} {together['noun']}: {describe(params)}."]
    sentences.append(f"Alone, {same} of the {count} would have chosen the same.")
    if mean["test_auroc"] is None:
        sentences.append(
            f"On the pseudo set: image AUROC {with_spread(mean, std, 'pseudo_auroc', auroc)}."
        )
        return [*sentences, "No real test set was scored, so nothing is known about real defects."]
    sentences.append(
        f"On the real test set: image AUROC {with_spread(mean, std, 'test_auroc', auroc)} over "
        f"{count} {together['noun']}; choosing without labels cost "
        f"{with_spread(mean, std, 'regret', points)} points, a choice at random would "
        f"have cost {points(mean['random_regret'])} on average."
    )
    return sentences


def _of_runs(together: Together) -> list[str]:
    rows, choices = together["rows"], together["choices"]
    if len(choices) == 1:
        sentences = [f"All {len(rows)} runs chose {describe(choices[0]['params'])}."]
    else:
        each = "; ".join(f"{describe(one['params'])} ({', '.join(one['runs'])})" for one in choices)
        sentences = [f"The {len(rows)} runs chose differently: {each}."]
    known = [row for row in rows if row["test_auroc"] is not None]
    if len(known) < len(rows):
        missing = ", ".join(row["run"] for row in rows if row["test_auroc"] is None)
        sentences.append(f"No real test set was scored for {missing}.")
    if known:
        results = "; ".join(
            f"{row['run']} {auroc(row['test_auroc'])} (cost {points(row['regret'])} points)"
            for row in known
        )
        sentences.append(f"Image AUROC on the real test set: {results}.")
    return sentences
