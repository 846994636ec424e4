"""`stopbank rules add|list|approve|extend|withdraw|check`: an operator's rules, through the one door."""

from typing import Annotated, Any

import typer

from rules.errors import Problem, Refused
from rules.findings import Objected
from rules.rule import RuleId, parse
from stopbank import config as configuration
from stopbank.commands.machine import ConfigPath, loaded
from stopbank.commands.rules import AsJson, RuleText, app
from stopbank.terminal import REFUSED, argument_or_stdin, finding_json, refuse, show, warn

OPERATOR = "operator"
"""Whose a rule is that is made for no tenant. The name grants nothing: who can open the database is the operator."""

LONGEST_REASON = 1000
ABSENT = " (the speaker is not running: it announces it once it is)"

Reason = Annotated[str, typer.Option("--reason", help="Why, for the audit and your colleagues")]
Lifetime = Annotated[str, typer.Option("--for", help="How long: 90s, 30m, 6h, 1d")]
Owner = Annotated[
    str | None, typer.Option(metavar="TENANT", help="The tenant it is made for, judged by that tenant's rights")
]
AsOperator = Annotated[
    bool, typer.Option("--as-operator", help="With --owner: the tenant's rule, judged by the operator's rights")
]
RuleName = Annotated[str, typer.Argument(metavar="ID", help="As `stopbank rules list` shows it")]


def _request(
    rule: str,
    lifetime: str,
    owner: str | None,
    as_operator: bool,
    as_json: bool,
    reason: str | None = None,
    replaces: str = "",
) -> Any:
    from rules.guard import Origin, Request
    from stopbank import durations

    problems: list[Problem] = []
    parsed = seconds = None
    try:
        parsed = parse(argument_or_stdin(rule).strip())
    except Refused as error:
        problems += error.problems
    try:
        seconds = durations.parse("for", lifetime).total_seconds()
    except Refused as error:
        problems += error.problems
    if owner is not None and not owner.strip():
        problems.append(Problem("owner", owner, "names nobody; leave it out for a rule of the operator's own"))
    elif owner is not None and not (len(owner) <= 256 and owner.isprintable()):
        problems.append(Problem("owner", owner, "must be 1 to 256 printable characters"))
    if reason is not None:
        problems += _reason_problems(reason)
    if parsed is None or seconds is None or problems:
        refuse(Refused.all(problems), as_json)
    replaced = RuleId(replaces) if replaces else None
    is_operator = owner is None or as_operator
    return Request(parsed, owner or OPERATOR, Origin.OPERATOR, seconds, is_operator=is_operator, replaces=replaced)


def _reason_problems(reason: str) -> list[Problem]:
    is_good = bool(reason.strip()) and len(reason) <= LONGEST_REASON and reason.isprintable()
    why = f"say why in one line of 1 to {LONGEST_REASON} characters, without control characters"
    return [] if is_good else [Problem("reason", reason, why)]


def _reasoned(reason: str) -> str:
    """The reason; raises `Refused` for one that says nothing."""
    if problems := _reason_problems(reason):
        raise Refused.all(problems)
    return reason


@app.command()
def check(
    rule: RuleText,
    lifetime: Lifetime = "30m",
    owner: Owner = None,
    as_operator: AsOperator = False,
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """Everything the guard has to say about a rule, here and now; exit 1 when it would be refused."""
    from stopbank import opened

    found = loaded(config)
    request = _request(rule, lifetime, owner, as_operator, as_json)
    with opened.standing(found) as store:
        findings = store.objections(request, opened.world(found), opened.now())
    bad = any(finding.is_error for finding in findings)
    if as_json:
        document = {"ok": not bad, "id": request.rule.id, "text": str(request.rule)}
        show(document | {"findings": [finding_json(one) for one in findings]}, True, "")
    else:
        for finding in findings:
            warn(str(finding))
        show(None, False, f"{'refused' if bad else 'good'}: {request.rule}")
    if bad:
        raise typer.Exit(REFUSED)


@app.command()
def add(
    rule: RuleText,
    reason: Reason,
    lifetime: Lifetime = "30m",
    owner: Owner = None,
    as_operator: AsOperator = False,
    replaces: Annotated[str, typer.Option(help="The id of the rule whose place it takes")] = "",
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """Puts a rule through the guard and, when nothing speaks against it, announces it until its deadline."""
    from datetime import timedelta

    from stopbank import local, opened

    found = loaded(config)
    request = _request(rule, lifetime, owner, as_operator, as_json, reason, replaces)
    now = opened.now()
    deadline = now + timedelta(seconds=request.lifetime_seconds)
    with opened.standing(found) as store:
        try:
            record, findings = store.admit(
                request, opened.world(found), deadline=deadline, actor=opened.actor(), reason=reason, now=now
            )
        except Objected as error:
            refuse(error, as_json)
    awake = local.wake(found.paths.state)
    for finding in () if as_json else findings:
        warn(str(finding))
    shown = f"{record.id} until {deadline:%Y-%m-%d %H:%M:%S} UTC"
    document = {"ok": True, "id": record.id, "text": str(record.rule), "deadline": deadline.isoformat()}
    document |= {"speaker_told": awake, "findings": [finding_json(one) for one in findings]}
    show(document, as_json, shown if awake else f"{shown}; the speaker isn't running and announces it once it is")


@app.command(name="list")
def list_rules(
    everything: Annotated[bool, typer.Option("--all", help="Ended rules too, the newest first")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="With --all: how many at most")] = 1000,
    skip: Annotated[int, typer.Option(min=0, help="With --all: how many of the newest to leave out")] = 0,
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """Rules with their deadlines and where each stands, neighbour by neighbour."""
    from stopbank import opened

    found = loaded(config)
    with opened.standing(found) as store:
        if everything:
            records = list(store.rules(limit=limit + 1, offset=skip))
        else:
            records = [*store.proposed(), *store.wanted()]
        spots: dict[str, list[dict[str, str]]] = {}
        for one in store.announcements():
            spot = {"neighbour": one.neighbour, "phase": one.phase.value, "detail": one.detail}
            spots.setdefault(one.rule, []).append(spot)
        unreadable = [one for one in store.unreadable() if one.table == "rules"]
    if everything and len(records) > limit:
        records = records[:limit]
        warn(f"there are more: go on with --skip {skip + limit}")
    for bad in unreadable:
        warn(f"error: rule {bad.subject} can't be read and is not announced: {bad.problem}")
    document = [
        {
            "id": one.id,
            "text": str(one.rule),
            "intent": one.intent.value,
            "hash": one.hash,
            "origin": one.origin.value,
            "owner": one.owner,
            "zone": one.zone,
            "deadline": one.deadline.isoformat(),
            "reason": one.reason,
            "neighbours": spots.get(one.id, []),
        }
        for one in records
    ]
    show(document, as_json, "\n".join(map(_line, document)) or "no rules")


def _line(one: dict[str, Any]) -> str:
    spots = ", ".join(f"{spot['neighbour']} {spot['phase']}" for spot in one["neighbours"]) or "not announced"
    return f"{one['id']}  {one['intent']:8}  until {one['deadline'][:19]}  {one['text']}  [{spots}]"


@app.command()
def approve(
    rule_id: RuleName,
    rule_hash: Annotated[str, typer.Option("--hash", help="What you looked at, from `rules list --json`")],
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """Approves a proposed rule exactly as it was shown: a rule that changed meanwhile is refused."""
    from stopbank import local, opened

    found = loaded(config)
    with opened.standing(found) as store:
        record = store.approve(RuleId(rule_id), rule_hash, opened.actor(), opened.now(), opened.world(found))
    awake = local.wake(found.paths.state)
    document = {"ok": True, "id": record.id, "speaker_told": awake}
    show(document, as_json, f"approved: {rule_id}{'' if awake else ABSENT}")


@app.command()
def extend(
    rule_id: RuleName,
    reason: Reason,
    lifetime: Lifetime = "30m",
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """Moves a rule's deadline to the given time from now."""
    from stopbank import durations, local, opened

    found, now = loaded(config), opened.now()
    problems = _reason_problems(reason)
    try:
        deadline = now + durations.parse("for", lifetime)
    except Refused as error:
        problems += error.problems
    if problems:
        refuse(Refused.all(problems), as_json)
    with opened.standing(found) as store:
        # Beyond the guard's limit the speaker would take the rule off.
        store.extend(RuleId(rule_id), deadline, opened.actor(), reason, now, opened.world(found).limits)
    awake = local.wake(found.paths.state)
    document = {"ok": True, "id": rule_id, "deadline": deadline.isoformat(), "speaker_told": awake}
    show(document, as_json, f"{rule_id} until {deadline:%Y-%m-%d %H:%M:%S} UTC")


@app.command()
def withdraw(
    rule_id: RuleName, reason: Reason, config: ConfigPath = configuration.DEFAULT_PATH, as_json: AsJson = False
) -> None:
    """Ends a rule; routers are told at once."""
    from stopbank import local, opened

    found, why = loaded(config), _reasoned(reason)
    with opened.standing(found) as store:
        store.withdraw(RuleId(rule_id), opened.actor(), why, opened.now())
    awake = local.wake(found.paths.state)
    document = {"ok": True, "id": rule_id, "speaker_told": awake}
    show(
        document,
        as_json,
        f"withdrawn: {rule_id}{'' if awake else ' (the speaker is not running: routers may hold it)'}",
    )
