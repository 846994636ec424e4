"""`stopbank rules add|list|approve|extend|withdraw|check`: an operator's rules, through the one door."""

from typing import Annotated, Any

import typer

from rules.errors import Problem, Refused
from rules.findings import Objected
from rules.rule import RuleId, parse
from stopbank import config as configuration
from stopbank.commands.machine import ConfigPath, loaded
from stopbank.commands.rules import AsJson, RuleText, app
from stopbank.terminal import REFUSED, argument_or_stdin, refuse, show

Reason = Annotated[str, typer.Option("--reason", help="Why, for the audit and your colleagues")]
Lifetime = Annotated[str, typer.Option("--for", help="How long: 90s, 30m, 6h, 1d")]
Owner = Annotated[str, typer.Option(help="The tenant the rule belongs to")]
RuleName = Annotated[str, typer.Argument(metavar="ID", help="As `stopbank rules list` shows it")]


def _request(rule: str, lifetime: str, owner: str, as_json: bool, replaces: str = "") -> Any:
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
    if parsed is None or seconds is None:
        refuse(Refused.all(problems), as_json)
    replaced = RuleId(replaces) if replaces else None
    return Request(parsed, owner, Origin.OPERATOR, seconds, is_operator=owner == "operator", replaces=replaced)


@app.command()
def check(
    rule: RuleText,
    lifetime: Lifetime = "30m",
    owner: Owner = "operator",
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """Everything the guard has to say about a rule, here and now; exit 1 when it would be refused."""
    from stopbank import opened

    found = loaded(config)
    request = _request(rule, lifetime, owner, as_json)
    with opened.store(found) as store:
        findings = store.objections(request, opened.world(found), opened.now())
    bad = any(finding.is_error for finding in findings)
    if as_json:
        document = {"ok": not bad, "id": request.rule.id, "text": str(request.rule)}
        show(document | {"findings": [opened.finding_json(one) for one in findings]}, True, "")
    else:
        opened.show_findings(findings)
        show(None, False, f"{'refused' if bad else 'good'}: {request.rule}")
    if bad:
        raise typer.Exit(REFUSED)


@app.command()
def add(
    rule: RuleText,
    reason: Reason,
    lifetime: Lifetime = "30m",
    owner: Owner = "operator",
    replaces: Annotated[str, typer.Option(help="The id of the rule whose place it takes")] = "",
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """Puts a rule through the guard and, when nothing speaks against it, announces it until its deadline."""
    from datetime import timedelta

    from stopbank import local, opened

    found = loaded(config)
    request = _request(rule, lifetime, owner, as_json, replaces)
    now = opened.now()
    deadline = now + timedelta(seconds=request.lifetime_seconds)
    with opened.store(found) as store:
        try:
            record, findings = store.admit(
                request, opened.world(found), deadline=deadline, actor=opened.actor(), reason=reason, now=now
            )
        except Objected as error:
            opened.objected(error, as_json)
            raise typer.Exit(REFUSED) from None
    awake = local.wake(found.paths.state)
    if not as_json:
        opened.show_findings(findings)
    shown = f"{record.id} until {deadline:%Y-%m-%d %H:%M:%S} UTC"
    document = {"ok": True, "id": record.id, "text": str(record.rule), "deadline": deadline.isoformat()}
    document |= {"speaker_told": awake, "findings": [opened.finding_json(one) for one in findings]}
    show(document, as_json, shown if awake else f"{shown}; the speaker isn't running and announces it once it is")


@app.command(name="list")
def list_rules(
    everything: Annotated[bool, typer.Option("--all", help="Ended rules too")] = False,
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """Rules with their deadlines and where each stands, neighbour by neighbour."""
    from stopbank import opened

    found = loaded(config)
    with opened.store(found) as store:
        records = [*store.proposed(), *store.wanted()] if not everything else list(store.rules(limit=1000))
        spots: dict[str, list[dict[str, str]]] = {}
        for one in store.announcements():
            spot = {"neighbour": one.neighbour, "phase": one.phase.value, "detail": one.detail}
            spots.setdefault(one.rule, []).append(spot)
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
) -> None:
    """Approves a proposed rule exactly as it was shown: a rule that changed meanwhile is refused."""
    from stopbank import local, opened

    found = loaded(config)
    with opened.store(found) as store:
        try:
            store.approve(RuleId(rule_id), rule_hash, opened.actor(), opened.now(), opened.world(found))
        except Objected as error:
            opened.objected(error, False)
            raise typer.Exit(REFUSED) from None
    local.wake(found.paths.state)
    show(None, False, f"approved: {rule_id}")


@app.command()
def extend(
    rule_id: RuleName, reason: Reason, lifetime: Lifetime = "30m", config: ConfigPath = configuration.DEFAULT_PATH
) -> None:
    """Moves a rule's deadline to the given time from now."""
    from stopbank import durations, local, opened

    found = loaded(config)
    now = opened.now()
    deadline = now + durations.parse("for", lifetime)
    with opened.store(found) as store:
        # Beyond the guard's limit the speaker would take the rule off.
        store.extend(RuleId(rule_id), deadline, opened.actor(), reason, now, opened.world(found).limits)
    local.wake(found.paths.state)
    show(None, False, f"{rule_id} until {deadline:%Y-%m-%d %H:%M:%S} UTC")


@app.command()
def withdraw(rule_id: RuleName, reason: Reason, config: ConfigPath = configuration.DEFAULT_PATH) -> None:
    """Ends a rule; routers are told at once."""
    from stopbank import local, opened

    found = loaded(config)
    with opened.store(found) as store:
        store.withdraw(RuleId(rule_id), opened.actor(), reason, opened.now())
    awake = local.wake(found.paths.state)
    show(None, False, f"withdrawn: {rule_id}{'' if awake else ' (the speaker is not running: routers may hold it)'}")
