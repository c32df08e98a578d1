"""How the command line reads options that are more than a word or a number."""

from typing import Any

import click


def number_list(context: click.Context, option: click.Parameter, text: str | None) -> Any:
    """``25,50,100`` as a list of whole numbers."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list such as 25,50,100") from None


def assignments(context: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> Any:
    """``name=value`` pairs as a mapping."""
    pairs = [text.partition("=") for text in texts]
    wrong = [
        text for text, (name, sign, _) in zip(texts, pairs, strict=True) if not (name and sign)
    ]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is not of the form name=value")
    return {name: value for name, _, value in pairs}


def refit_options(context: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """The options that ``--refit`` leaves open; seeds that were not given are the RUN's.

    Raises:
        click.UsageError: one was given that RUN decides.
    """
    free = ("device", "seed", "seeds", "resume", "overwrite")
    given = {
        name
        for name in context.params
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    decided = sorted(given - {*free, "data", "out", "refit"})
    if decided:
        name = {"settings": "set"}.get(decided[0], decided[0]).replace("_", "-")
        raise click.UsageError(f"--refit takes --{name} from RUN; leave it out")
    return {
        name: None if name.startswith("seed") and name not in given else options[name]
        for name in free
    }
