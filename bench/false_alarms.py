"""Alarms without an attack in a simulated day of 10,000 hosts, and attacks found in it, through the real detection.

STOPBANK_DAY_HOSTS, STOPBANK_DAY_HOURS and STOPBANK_DAY_FIRST_HOUR make it smaller; a whole day takes some half an hour
of one processor.
"""

import os
import sys
from collections.abc import Iterator

from bench.result import TARGET, Result
from lab.day import Outcome, Plan, simulate


def run() -> Iterator[Result]:
    """A day after a week of learning."""
    hosts = int(os.environ.get("STOPBANK_DAY_HOSTS", "10000"))
    hours = float(os.environ.get("STOPBANK_DAY_HOURS", "24"))
    first = float(os.environ.get("STOPBANK_DAY_FIRST_HOUR", "0"))
    outcome = simulate(Plan(hosts=hosts, hours=hours, first_hour=first))
    for cause, times in outcome.false_alarms.most_common():
        print(f"false alarm, {times} times: {cause}", file=sys.stderr)
    for event in outcome.missed:
        print(f"missed: {event.cause} at {event.begin / 3600:.2f} h", file=sys.stderr)
    yield from _results(outcome)


def _results(outcome: Outcome) -> Iterator[Result]:
    plan = outcome.plan
    host_days = plan.hosts * plan.hours / 24
    wrong, note = outcome.false_alarms.total(), f"{plan.hosts:,} hosts, {plan.hours:g} hours, seed {plan.seed}"
    yield Result.against("false_alarms.incidents", wrong, "incidents", TARGET, 0, note)
    suspicions = outcome.suspicions / host_days * 10_000
    yield Result.against("false_alarms.suspicions", suspicions, "per 10,000 host-days", TARGET, 1_000, "never acted on")
    attacks = len(outcome.found) + len(outcome.missed)
    if attacks:
        missed = 100 * len(outcome.missed) / attacks
        yield Result.against(
            "false_alarms.missed", missed, "%", TARGET, 5, f"{len(outcome.missed)} of {attacks} attacks"
        )
    yield Result.against("false_alarms.memory", outcome.bytes_per_target, "bytes per target", TARGET, 64, "learned")
    yield Result.against("false_alarms.wall", outcome.seconds, "s", TARGET, 3_600, note)
