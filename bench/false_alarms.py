"""Alarms without an attack in a simulated day of 10,000 hosts, and attacks found in it, through the real detection.

STOPBANK_DAY_HOSTS, STOPBANK_DAY_HOURS, STOPBANK_DAY_FIRST_HOUR and STOPBANK_DAY_SEED say what is played. Stopped early
(SIGINT, SIGTERM) it gives the figures of what was played until then, and says how much that was.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bench.result import TARGET, Result, percentile
from lab.day import Outcome, Plan, simulate


def run() -> Iterator[Result]:
    """A day after a week of learning."""
    hosts, seed = (
        int(os.environ.get(f"STOPBANK_DAY_{name}", usual)) for name, usual in (("HOSTS", 10_000), ("SEED", 1))
    )
    hours, first = (
        float(os.environ.get(f"STOPBANK_DAY_{name}", usual)) for name, usual in (("HOURS", 24), ("FIRST_HOUR", 0))
    )
    plan = Plan(hosts=hosts, hours=hours, first_hour=first, seed=seed)
    with _stopped() as stop:
        outcome = simulate(plan, each_hour=_progress, stop=stop.is_set)
    for alarm in outcome.alarms:
        if not alarm.is_attack:
            cause = " + ".join(alarm.causes) or "usual"
            print(
                f"false alarm at {alarm.second / 3600:.3f} h: {alarm.target} {alarm.metric}: {cause}", file=sys.stderr
            )
    for event in outcome.missed:
        print(f"missed: {event.cause} at {event.begin / 3600:.2f} h", file=sys.stderr)
    for event, delay in outcome.found.items():
        print(f"found: {event.cause} at {event.begin / 3600:.2f} h, {delay:.2f} s after it began", file=sys.stderr)
    yield from _results(outcome)


@contextmanager
def _stopped() -> Iterator[threading.Event]:
    """An event that the signals which end a program set instead, within."""
    stop, chosen = threading.Event(), (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in chosen]
    try:
        yield stop
    finally:
        for number, handler in zip(chosen, before, strict=True):
            signal.signal(number, handler)


def _progress(outcome: Outcome) -> None:
    print(
        f"{outcome.hours:g} h played in {outcome.seconds:,.0f} s ({outcome.processor_seconds:,.0f} s of processor): "
        f"{outcome.false_alarms.total()} false incidents, {outcome.suspicions} suspicions, "
        f"{len(outcome.found)} attacks found",
        file=sys.stderr,
        flush=True,
    )


def _results(outcome: Outcome) -> Iterator[Result]:
    plan = outcome.plan
    note = f"{plan.hosts:,} hosts, {outcome.hours:.4g} of {plan.hours:g} hours, seed {plan.seed}"
    yield Result.against("false_alarms.incidents", outcome.false_alarms.total(), "incidents", TARGET, 0, note)
    told = (
        f"never acted on; {outcome.suspicions} seen, {outcome.fine_suspicions} in {plan.fine_seconds:g} s of a minute"
    )
    suspicions = outcome.suspicions_per_day
    yield Result.against("false_alarms.suspicions", suspicions, "per 10,000 host-days", TARGET, 1_000, told)
    attacks = len(outcome.found) + len(outcome.missed)
    if attacks:
        missed = 100 * len(outcome.missed) / attacks
        yield Result.against(
            "false_alarms.missed", missed, "%", TARGET, 5, f"{len(outcome.missed)} of {attacks} attacks"
        )
    if steps := [delay for event, delay in outcome.found.items() if not event.growth]:
        note_of = "attacks that begin at once; a second of it is the simulation's"
        yield Result.against("false_alarms.delay_p95", percentile(steps, 0.95), "s", TARGET, 4, note_of)
    yield Result.against("false_alarms.memory", outcome.bytes_per_target, "bytes per target", TARGET, 64, "learned")
    yield Result.against("false_alarms.wall", outcome.seconds, "s", TARGET, 1_200, note)
    yield Result.against("false_alarms.processor", outcome.processor_seconds, "s", TARGET, 1_200, note)
