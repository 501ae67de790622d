"""What is told about reviews: bounded, without secrets, and never in the way (attacks D-09, S-08)."""

import datetime as dt
import io
import json
import logging
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from webhook import limits
from webhook.observe.lists import RevocationLists
from webhook.observe.log import LogFormat, ReviewLine, ReviewLog, log_to
from webhook.observe.metrics import Metrics
from webhook.verdict import End, Proof, Satisfied, Unknown, Unsatisfied


class Stream:
    def __init__(self, gate: threading.Event | None = None, failure: Exception | None = None) -> None:
        self.data = b""
        self._gate = gate
        self._failure = failure

    def write(self, data: bytes) -> None:
        if self._gate:
            self._gate.wait(5)
        if self._failure:
            raise self._failure
        self.data += data

    def flush(self) -> None:
        pass


def line(uid: str = "u", **fields: Any) -> ReviewLine:
    return ReviewLine(
        datetime(2026, 11, 1, tzinfo=UTC), "review", uid, "CREATE", "shop", "Pod", "web", "allowed", 1.5, **fields
    )


def reviews_to(stream: Stream) -> ReviewLog:
    return ReviewLog(stream)  # type: ignore[arg-type]  # all of a stream that it uses


def test_a_review_is_one_line_of_json_and_what_is_empty_is_left_out() -> None:
    stream = Stream()
    log = reviews_to(stream)
    log.add(line("a", reason="first\nsecond"))
    log.add(line("b"))
    log.close()
    first, second = stream.data.splitlines()
    assert json.loads(first)["reason"] == "first\nsecond"
    assert set(json.loads(second)) == {
        "time", "event", "uid", "operation", "namespace", "kind", "name", "decision", "ms",
    }  # fmt: skip


def test_d09_a_reader_that_has_stopped_costs_lines_and_not_reviews(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhook.observe.log._MOST_WAITING", 10)
    gate = threading.Event()
    stream = Stream(gate)
    log = reviews_to(stream)
    for _ in range(100):
        log.add(line())
    assert log.dropped >= 80
    gate.set()
    log.close()
    assert len(stream.data.splitlines()) + log.dropped == 100


@pytest.mark.parametrize("failure", [BrokenPipeError(), ValueError("closed")])
def test_d09_a_stream_that_is_gone_is_survived(failure: Exception) -> None:
    log = reviews_to(Stream(failure=failure))
    log.add(line())
    log.close()
    assert log.dropped == 1


def test_d09_no_series_has_a_name_that_others_choose() -> None:
    metrics = Metrics()
    for host in ("a.io", "b.io", "evil\nname"):
        metrics.fetched(host, 200)
        metrics.fetched(host, 0)
        metrics.fetched(host, 99_999)
    metrics.verified("cosign", Satisfied(frozenset({Proof("cosign", "i", "x")})))
    metrics.verified("cosign", Unsatisfied(("no",)))
    metrics.verified("cosign", Unsatisfied(("it carries no signature",), absent=True))
    metrics.verified("cosign", Unknown(("down",)))
    metrics.recalled(hit=True)
    metrics.answered("CREATE", "denied", "enforce", 0.01)
    metrics.answered("CREATE", "allowed", "audit", 0.01)
    text = metrics.render().decode()
    assert "a.io" not in text
    assert "evil" not in text
    assert 'trusted_images_registry_requests_total{code="200"} 3.0' in text
    assert 'trusted_images_registry_requests_total{code="0"} 6.0' in text
    for reason, result in {
        "proven": "satisfied", "rejected": "unsatisfied", "absent": "unsatisfied", "unavailable": "unknown",
    }.items():  # fmt: skip
        labels = f'reason="{reason}",result="{result}",verifier="cosign"'
        assert f"trusted_images_verifications_total{{{labels}}} 1.0" in text
    assert "trusted_images_cache_hits_total 1.0" in text
    requests = "trusted_images_admission_requests_total"
    assert requests + '{decision="denied",mode="enforce",operation="CREATE"} 1.0' in text
    assert requests + '{decision="allowed",mode="audit",operation="CREATE"} 1.0' in text
    # Series that can be alerted on exist before the first event.
    assert requests + '{decision="error",mode="enforce",operation="UPDATE"} 0.0' in text
    assert 'trusted_images_refusal_events_total{result="failed"} 0.0' in text


def test_whatever_a_record_says_it_is_one_line_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", logging.WARNING)
    stream = io.StringIO()
    log_to(stream)
    logging.getLogger("webhook.test").error('say "%s"', "first\nsecond")
    logging.getLogger("webhook.test").error("unforeseen", exc_info=ValueError("broken"))
    logging.getLogger("webhook.test").debug("not told")
    said, failed = (json.loads(text) for text in stream.getvalue().splitlines())
    assert (said["level"], said["event"]) == ("ERROR", 'say "first\nsecond"')
    assert "trace" not in said
    assert "ValueError: broken" in failed["trace"]


def test_s08_as_text_nobody_outside_can_write_a_line_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Stream()
    log = ReviewLog(lines, LogFormat.text)  # type: ignore[arg-type]  # all of a stream that it uses
    log.add(line("a", reason='first\n2026-01-01T00:00:00Z review uid=forged "x" \x1b[2J', dry_run=True))
    log.add(line("b", policy="shop/web"))
    log.close()
    first, second = lines.data.decode().splitlines()
    assert second == (
        "2026-11-01T00:00:00Z review uid=b operation=CREATE namespace=shop kind=Pod name=web decision=allowed ms=1.5 policy=shop/web"
    )
    assert " dry_run=true " in first
    assert first.endswith(r'reason="first\n2026-01-01T00:00:00Z review uid=forged \"x\" \u001b[2J"')

    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", logging.WARNING)
    stream = io.StringIO()
    log_to(stream, LogFormat.text)
    logging.getLogger("webhook.test").error("say %s", "first\nsecond\x1b")
    logging.getLogger("webhook.test").error("unforeseen", exc_info=ValueError("broken\nforged"))
    said, failed, *trace = stream.getvalue().splitlines()
    assert said.endswith(r"Z ERROR say first\nsecond\x1b")
    assert failed.endswith("Z ERROR unforeseen")
    assert all(one.startswith("    | ") for one in trace)
    assert trace[-1] == "    | forged"


def test_f31_a_revocation_list_is_told_of_as_long_as_somebody_relies_on_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    seconds = 0.0
    lists = RevocationLists(lambda: seconds)
    assert lists.first() is None
    day, now = dt.timedelta(days=1), dt.datetime(2026, 11, 26, tzinfo=dt.UTC)
    lists.relied_on([End(now + day, "a"), End(now + 2 * day, "b")])
    assert lists.first() == now + day
    # Its issuer has made another; a server that still has the old one changes nothing.
    lists.relied_on([End(now + 3 * day, "a")])
    lists.relied_on([End(now + day, "a")])
    assert lists.first() == now + 2 * day
    # A metric cannot say which it is; each new one is a line of the log.
    assert [record.getMessage() for record in caplog.records] == [
        f"revocation list {name} holds until 2026-11-{day_}T00:00:00+00:00"
        for name, day_ in (("a", 27), ("b", 28), ("a", 29))
    ]
    seconds = limits.LIST_SECONDS / 2
    lists.relied_on([End(now + 3 * day, "a")])
    # Nobody needs the other any more.
    seconds = limits.LIST_SECONDS + 1
    assert lists.first() == now + 3 * day
    lists.relied_on([])
    assert list(lists._known) == ["a"]
    seconds = 2 * limits.LIST_SECONDS
    assert lists.first() is None


def test_d09_so_many_revocation_lists_are_kept_and_those_that_are_used() -> None:
    lists, now = RevocationLists(lambda: 0.0), dt.datetime(2026, 11, 26, tzinfo=dt.UTC)
    lists.relied_on([End(now, "used")])
    for i in range(limits.MAX_LISTS + 10):
        lists.relied_on([End(now, str(i)), End(now, "used")])
    assert len(lists._known) == limits.MAX_LISTS
    assert {"used", str(limits.MAX_LISTS + 9)} <= lists._known.keys()
    assert "0" not in lists._known


def test_d09_the_list_that_ends_first_is_told_of_however_many_others_there_are() -> None:
    lists, now = RevocationLists(lambda: 0.0), dt.datetime(2026, 11, 26, tzinfo=dt.UTC)
    lists.relied_on([End(now, "the platform's")])
    lists.relied_on(End(now + dt.timedelta(hours=1 + i), str(i)) for i in range(limits.MAX_LISTS + 10))
    assert len(lists._known) == limits.MAX_LISTS
    assert lists.first() == now


def test_f31_the_leader_tells_of_a_list_until_it_has_judged_everything_again() -> None:
    seconds = 0.0
    lists, now = RevocationLists(lambda: seconds), dt.datetime(2026, 11, 26, tzinfo=dt.UTC)
    lists.relied_on([End(now, "old")])
    seconds = limits.LIST_SECONDS + 1
    with lists.kept(12 * 3600):
        # What this replica knew before it led may have been renewed since.
        assert lists.first() is None
        lists.relied_on([End(now, "a")])
        seconds += 12 * 3600 + limits.LIST_SECONDS - 1
        assert lists.first() == now
        seconds += 2
        assert lists.first() is None
        lists.relied_on([End(now, "a")])
    seconds += limits.LIST_SECONDS + 1
    assert lists.first() is None


def test_f31_what_is_proven_tells_of_the_lists_that_it_rests_on() -> None:
    metrics, now = Metrics(), dt.datetime(2026, 11, 26, tzinfo=dt.UTC)
    metrics.verified("notation", Satisfied(frozenset({Proof("notation", "i", "x", lists=(End(now, "http://crl/"),))})))
    assert metrics.lists.first() == now
    assert "http://crl/" not in metrics.render().decode()
