"""The coverage floor: in the rooms that decide trust, every branch is taken by a test.

`python -m tests.coverage_floor` reads what the test run measured, prints the whole as one figure, and every line or
branch of the rooms below that no test has taken. One of those fails the run.
"""

import io
import sys

from coverage import Coverage
from coverage.exceptions import CoverageException

DECIDING = (
    "webhook/limits.py",
    "webhook/moment.py",
    "webhook/parsing.py",
    "webhook/yamltext.py",
    "webhook/image.py",
    "webhook/verdict.py",
    "webhook/trust.py",
    "webhook/policy/**",
    "webhook/formats/**",
    "webhook/judge/**",
    "webhook/admission/exceptions.py",
    "webhook/admission/review.py",
    "webhook/keys/kept.py",
    "webhook/memory/records.py",
    "webhook/memory/uses.py",
    "webhook/operator/keptkeys.py",
    "webhook/operator/records.py",
    "webhook/operator/uses.py",
    "webhook/registry/manifests.py",
)


def main() -> int:
    """The exit code: 0 where every branch of the deciding rooms was taken."""
    coverage = Coverage()
    try:
        coverage.load()
        whole = coverage.report(file=io.StringIO())
        report = io.StringIO()
        deciding = coverage.report(file=report, include=list(DECIDING), skip_covered=True)
    except CoverageException as failure:
        print(f"coverage: {failure}; run the tests with --cov first", file=sys.stderr)
        return 1
    print(f"coverage: {whole:.1f} % of all, {deciding:.1f} % of what decides trust (every branch is wanted)")
    if deciding < 100:
        print(report.getvalue())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
