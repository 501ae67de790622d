"""What a Pod runs where its image's name means another digest by now: what `kubectl trust why` says of it is what reports say."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from webhook.cli import hosting
from webhook.cli.cluster import name_of
from webhook.cli.output import by_image
from webhook.judge import explain
from webhook.judge.workload import Question
from webhook.parsing import quote
from webhook.verdict import Judgement

if TYPE_CHECKING:
    from webhook.background.examine import Asked, Examined


async def told_of(
    judge: "Asked", question: Question, running: Mapping[str, str], judgements: Sequence[Judgement], seconds: float
) -> dict[str, str]:
    """By image, what is to be said of what runs there; nothing of what runs as its name means. `running`: what nodes name, by image."""
    groups = by_image(judgements)
    others = {image: running[image] for image, group in groups.items() if _is_other(running.get(image, ""), group)}
    if not others:
        return {}
    from webhook.background.examine import Examiner
    from webhook.background.pods import Sight, running_digest

    digests = tuple(running_digest(running.get(name_of(placed.image), "")) for placed in question.images)
    examined: Examined | None = None
    try:
        async with asyncio.timeout(seconds):
            sight = Sight(replace(question, dry_run=True), digests)
            examined = await Examiner(judge, hosting.now).examine(sight)
    except TimeoutError:
        pass
    return {image: "; ".join(_words(runs, groups[image], examined)) for image, runs in others.items()}


def _is_other(runs: str, group: Sequence[Judgement]) -> bool:
    digest = next(filter(None, map(explain.digest_of, group)), None)
    return bool(runs) and digest is not None and not runs.endswith(digest)


def _words(runs: str, group: Sequence[Judgement], examined: "Examined | None") -> Iterable[str]:
    yield f"what runs is {quote(runs)}, and not the digest that the name means now"
    if examined is None:
        yield "what policies say of it was not known in time"
        return
    places = {where for one in group for where in one.places}
    if places & examined.unread:
        yield "whether it is the same image cannot be told now"
    said = dict[str, None]()
    for line in examined.result.runs:
        if line.where in places and line.policy is not None:
            as_what = (
                "" if line.image.rpartition("@")[2] in runs else f", judged as {line.image}, which it is or belongs to"
            )
            said[f"policy {line.policy} on what runs: {line.text or line.ending}{as_what}"] = None
    yield from said
