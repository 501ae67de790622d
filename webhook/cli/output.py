"""Judgements as the command line prints them."""

import enum
import json
from collections.abc import Iterable, Sequence
from typing import Final

import typer

from webhook import limits
from webhook.judge import explain
from webhook.judge.enforce import verdict_of
from webhook.judge.explain import Verdict
from webhook.parsing import quote
from webhook.verdict import Allowed, Deferred, Judgement, Ruling, Uncovered

_COLOURS: Final = {"allowed": typer.colors.GREEN, "denied": typer.colors.RED, "undecided": typer.colors.YELLOW}
_EXIT_CODES: Final[dict[Verdict, int]] = {"allowed": 0, "denied": 1, "undecided": 2}


class Output(enum.StrEnum):
    """`-o`."""

    text = "text"
    json = "json"


def by_image(judgements: Iterable[Judgement]) -> dict[str, list[Judgement]]:
    """Judgements grouped by the image they are about; those without one are left out."""
    groups: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        if not isinstance(judgement, Deferred):
            groups.setdefault(judgement.image, []).append(judgement)
    return groups


def print_judgements(judgements: Sequence[Judgement], output: Output) -> None:
    """All judgements, an image at a time."""
    for deferred in (judgement for judgement in judgements if isinstance(judgement, Deferred)):
        if output is Output.text:
            typer.echo(f"{'LATER':<10}{explain.deferred(deferred)}")
    groups = by_image(judgements)
    verdicts = {image: verdict_of(group) for image, group in groups.items()}
    if output is Output.json:
        typer.echo(json.dumps(explain.as_json(judgements, verdicts), indent=2))
        return
    for image, group in groups.items():
        typer.echo(headline(image, group))
        for judgement in group:
            typer.echo(f"{'':<10}{_line(judgement)}")
            for detail in explain.details(judgement) if isinstance(judgement, Ruling) else ():
                typer.echo(f"{'':<12}{detail}")


def headline(image: str, group: Sequence[Judgement]) -> str:
    """The verdict about one image, its name, and the digest it means."""
    verdict = verdict_of(group)
    digest = next(filter(None, map(explain.digest_of, group)), None)
    meant = f" ({digest})" if digest and digest not in image else ""
    word = typer.style(f"{verdict.upper():<10}", _COLOURS[verdict], bold=True)
    return f"{word}{quote(image, limits.MAX_REFERENCE) or '(no image)'}{meant}"


def _line(judgement: Judgement) -> str:
    match judgement:
        case Ruling(outcome=Allowed()):
            notes = "".join(f"; not enforced: {text}" for text in explain.logged(judgement))
            return f"policy {judgement.policy}: signed by {explain.identities(judgement)}{notes}"
        case Ruling():
            note = "" if judgement.mode == "enforce" else f" [{judgement.mode}: not enforced]"
            return f"{explain.sentence(judgement)}{note}"
        case Uncovered():
            return explain.uncovered(judgement)
        case Deferred():
            return explain.deferred(judgement)


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """0 if all are allowed; 1 if one is denied, which is certain; else 2."""
    codes = {_EXIT_CODES[verdict] for verdict in verdicts}
    return 1 if 1 in codes else max(codes, default=0)
