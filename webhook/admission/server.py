"""The webhook's HTTP application.

Our own and not kopf's, which refuses bodies over 1 MiB, fixes the timeout and costs many times the processor time
(docs/adr/0002). Whatever happens to a review that has a uid, its answer is a well-formed AdmissionReview: an HTTP error would
leave the decision to `failurePolicy`, which somebody may have set to Ignore.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qs

from aiohttp import web

from webhook import limits
from webhook.admission.lint import Lint
from webhook.admission.refusal import refusal_of
from webhook.admission.review import (
    Malformed,
    Request,
    Review,
    Unjudged,
    parse_review,
    read_name,
    read_request,
    render,
    render_patch,
)
from webhook.judge.pin import Pin
from webhook.judge.workload import Question
from webhook.observe.log import ReviewLine, ReviewLog
from webhook.observe.metrics import Decision, Metrics
from webhook.parsing import Invalid
from webhook.verdict import Answer, Borne, Refusal, Use

_log = logging.getLogger(__name__)

Decide = Callable[[Question, float], Awaitable[Answer]]
"""A question and a deadline on the event loop's clock → the answer."""

FindPins = Callable[[Question, float], Awaitable[tuple[Pin, ...]]]
"""The same → the digests to write into the Pod."""

Tell = Callable[[Use], None]
"""Hears of each Pod that an exception let in. Waits for nothing and fails nothing."""

Bear = Callable[[Borne], None]
"""Hears of each Pod that `onOutage` let in. The same."""

TellRefusal = Callable[[Refusal], None]
"""Hears of each review that was refused and is no dry run. The same."""

_DURATION: Final = re.compile(
    r"(?:(?P<minutes>[0-9]{1,2})m)?(?:(?P<seconds>[0-9]{1,3}(?:\.[0-9]{1,9})?)s)?|(?P<ms>[0-9]{1,5})ms"
)
_DECISIONS: Final[dict[int, Decision]] = {403: "denied", 422: "denied", 503: "undecided"}
_ADMITTED: Final = Answer(True, 200)


def parse_timeout(text: str | None) -> float:
    """Seconds in `?timeout=`, as Go writes durations (`10s`, `1m0s`, `500ms`); the default where it is none."""
    match = _DURATION.fullmatch(text or "")
    if match is None or not text:
        return limits.DEFAULT_TIMEOUT
    minutes, seconds, milliseconds = match["minutes"] or 0, match["seconds"] or 0, match["ms"] or 0
    total = int(minutes) * 60 + float(seconds) + int(milliseconds) / 1000
    return min(total, limits.MAX_TIMEOUT)


@lru_cache(maxsize=16)
def _timeout_of(query: str) -> float:
    """Seconds in a query string; an API server sends the same one with each review."""
    return parse_timeout(parse_qs(query).get("timeout", [None])[0])


def deadline_after(timeout: float) -> float:
    """Seconds from now at which a review must be answered, given the API server's own timeout in seconds."""
    return max(timeout - limits.ANSWER_MARGIN, timeout / 2)


class Admission:
    """The handlers of the webhook port. `waiting` reviews are bounded: beyond that, an answer at once."""

    def __init__(
        self,
        decide: Decide,
        pins: FindPins,
        tell: Tell,
        lint: Lint,
        metrics: Metrics,
        log: ReviewLog,
        bear: Bear = lambda _: None,
        tell_refusal: TellRefusal = lambda _: None,
    ) -> None:
        self._decide = decide
        self._pins = pins
        self._tell = tell
        self._bear = bear
        self._tell_refusal = tell_refusal
        self._lint = lint
        self._metrics = metrics
        self._log = log
        self._waiting = 0
        metrics.waiting.set_function(lambda: self._waiting)

    def routes(self) -> Mapping[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]]:
        """What stands at which path of the webhook port; all of it is POSTed to."""
        return {"/validate": self.validate, "/mutate": self.mutate, "/validate-policies": self.validate_policies}

    async def validate(self, request: web.BaseRequest) -> web.Response:
        """POST /validate: whether these images may run."""
        started = time.perf_counter()
        deadline = asyncio.get_running_loop().time() + deadline_after(_timeout_of(request.query_string))
        try:
            review = parse_review(await _body(request))
        except Invalid as e:
            return web.Response(status=400, text=f"{e}\n")
        answer = await self._answer(review, deadline)
        self._record(review, answer, time.perf_counter() - started)
        if answer.excused:
            self._tell_of_uses(review.request, answer)
        if answer.tolerated:
            self._tell_of_outage(review.request, answer)
        if not answer.allowed and (refusal := refusal_of(review.request, answer, datetime.now(UTC))) is not None:
            self._tell_refusal(refusal)
        return web.Response(body=render(review.request.uid, answer), content_type="application/json")

    def _tell_of_outage(self, request: Request, answer: Answer) -> None:
        """Once for a Pod, however many of its images: by nothing that was known, if that holds of one of them."""
        name, uid = read_name(request)
        rulings = answer.tolerated
        self._metrics.borne(known_good=all(one.tolerance and one.tolerance.verified_at for one in rulings))
        self._bear(Borne(rulings, request.namespace, name, uid, datetime.now(UTC)))

    def _tell_of_uses(self, request: Request, answer: Answer) -> None:
        """One use for each exception, however many images of the Pod it excuses."""
        name, uid = read_name(request)
        for excuse, rulings in answer.excused.items():
            self._metrics.excused()
            self._tell(Use(excuse, rulings, request.namespace, name, uid, datetime.now(UTC)))

    async def mutate(self, request: web.BaseRequest) -> web.Response:
        """POST /mutate: the Pod with the verified digests beside its tags. It admits always: /validate decides, after it."""
        deadline = asyncio.get_running_loop().time() + deadline_after(_timeout_of(request.query_string))
        try:
            review = parse_review(await _body(request), final=False)
        except Invalid as e:
            return web.Response(status=400, text=f"{e}\n")
        patch = await self._patch(review, deadline)
        if not review.request.dry_run:
            self._metrics.pinned(len(patch))
        return web.Response(body=render_patch(review.request.uid, patch), content_type="application/json")

    async def _patch(self, review: Review, deadline: float) -> tuple[Pin, ...]:
        if not isinstance(review.asked, Question) or self._waiting >= limits.MAX_WAITING_REVIEWS:
            return ()
        self._waiting += 1
        try:
            return await self._pins(review.asked, deadline)
        except Exception:  # noqa: BLE001 - a review that has a uid gets an answer
            # Nothing is admitted by it: what is not pinned, /validate refuses.
            _log.exception("unforeseen error in review %s", review.request.uid)
            return ()
        finally:
            self._waiting -= 1

    async def _answer(self, review: Review, deadline: float) -> Answer:
        asked = review.asked
        if isinstance(asked, Unjudged):
            return _ADMITTED
        if isinstance(asked, Malformed):
            return Answer(False, 403, asked.reason)
        if self._waiting >= limits.MAX_WAITING_REVIEWS:
            return Answer(
                False, 503, f"could not verify: {self._waiting} reviews are waiting already. A retry may help"
            )
        self._waiting += 1
        try:
            return await self._decide(asked, deadline)
        except Exception:  # noqa: BLE001 - a review that has a uid gets an answer, and this one admits nothing
            number = secrets.token_hex(4)
            _log.exception("unforeseen error %s in review %s", number, review.request.uid)
            return Answer(False, 500, f"an internal error, id {number} in the webhook's log; nothing was admitted")
        finally:
            self._waiting -= 1

    def _record(self, review: Review, answer: Answer, seconds: float) -> None:
        """One line and one count. A dry run is no event: it is logged as one and not counted."""
        decision: Decision = "allowed" if answer.allowed else _DECISIONS.get(answer.code, "error")
        request, dry_run = review.request, bool(review.request.dry_run)
        if not dry_run:
            self._metrics.answered(request.operation, decision, answer.mode, seconds)
        annotations = answer.annotations
        unjudged = review.asked.reason if isinstance(review.asked, Unjudged) else ""
        self._log.add(
            ReviewLine(
                time=datetime.now(UTC),
                event="review",
                uid=request.uid,
                operation=request.operation,
                namespace=request.namespace,
                kind=request.kind.kind,
                name=request.name,
                decision=decision,
                ms=round(seconds * 1000, 3),
                dry_run=dry_run,
                policy=annotations.get("policy", ""),
                digest=annotations.get("digest", ""),
                signer=annotations.get("signer", ""),
                exception=annotations.get("exception", ""),
                reason=answer.message
                or annotations.get("outage")
                or annotations.get("excused")
                or annotations.get("not-enforced", unjudged),
            )
        )

    async def validate_policies(self, request: web.BaseRequest) -> web.Response:
        """POST /validate-policies: whether this policy or exception may be written, and what is dangerous about it."""
        try:
            asked = read_request(await _body(request))
        except Invalid as e:
            return web.Response(status=400, text=f"{e}\n")
        return web.Response(body=render(asked.uid, self._lint.answer(asked)), content_type="application/json")


async def _body(request: web.BaseRequest) -> bytes:
    """The whole body. Raises the HTTP error to answer with: 400, 408, 413 or 415, and `Invalid` for none at all."""
    if request.headers.get("Content-Encoding", "identity") != "identity":
        # A few bytes could unpack to any number; the API server never compresses what it sends us.
        raise web.HTTPUnsupportedMediaType(text="compressed bodies are not accepted\n")
    if request.content_type != "application/json":
        raise web.HTTPBadRequest(text="the Content-Type must be application/json\n")
    if (request.content_length or 0) > limits.MAX_REVIEW:
        raise web.HTTPRequestEntityTooLarge(limits.MAX_REVIEW, request.content_length or 0)
    if request.content.is_eof():
        # All of it came with the headers, as from the API server; nothing is left to wait for.
        return await request.read()
    try:
        async with asyncio.timeout(limits.MAX_REQUEST_SECONDS):
            return await request.read()
    except TimeoutError as e:
        raise web.HTTPRequestTimeout(text=f"the body took longer than {limits.MAX_REQUEST_SECONDS:.0f} s\n") from e
