"""The narrowest FlowSpec rules that take an attack away, with what they would take besides. Pure.

Candidates are scored on the attack sample (coverage) and on the target's normal traffic (collateral, `sensors.harm`). A
rule never asks for ports where fragments carry none, nor for more than routers' profiles hold. Where nothing separates
the two, the signature says so and carries a rate to limit to. What comes over completed connections is never dropped
by service: only by source, where sources are few and real.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_network

import numpy as np
from numpy.typing import NDArray

from rules.components import Numeric
from rules.match import MAXIMUM, TCP, Component, Match, Network
from rules.traffic import Signature, Vector
from sensors.classify import Picture
from sensors.features import MOST_VALUES, NEARLY_ALL, few, operators
from sensors.matching import selected
from sensors.plain import SYN_ONLY, bases, fragment_rule, is_later
from sensors.refine import BEARABLE, Best, refined
from sensors.scoring import SMALLEST, Evidence, bare
from sensors.tables import ANY, address

__all__ = ["Evidence", "few_sources", "searched", "settled", "signatures"]

MOST = 4
"""Signatures in one detection."""
LOSES = 0.02
"""What rules of before may catch less than new ones and still stay: rules that change each second help nobody."""

SESSIONS = frozenset({"http_flood", "http_slow", "tls_flood", "tcp_connection_flood"})
"""Attacks over completed connections."""
_REMAINS = frozenset({"syn_flood", "ack_flood", "fin_flood", "rst_flood"})
"""What is left of connections that began before the sample did; beside such an attack they get no rule."""


def signatures(
    target: Network,
    sample: ANY,
    picture: Picture,
    normal: ANY,
    *,
    severity: float = 1.0,
    background: NDArray[np.float64] | None = None,
    before: Sequence[Signature] = (),
) -> tuple[Signature, ...]:
    """At most four rules, best first; `sample` is the attack as classified in `picture`, `normal` the target's other
    traffic. `background`: for each kind the share of the sample that comes anyway; `before`: the rules of the last
    message, which stay while they do as well."""
    evidence = Evidence.of(sample, normal, severity, background)
    return settled(before, evidence) or searched(target, evidence, picture, background=background, before=before)


def searched(
    target: Network,
    evidence: Evidence,
    picture: Picture,
    *,
    background: NDArray[np.float64] | None = None,
    before: Sequence[Signature] = (),
    plain: bool = False,
) -> tuple[Signature, ...]:
    """The rules, looked for anew; `plain`: as each vector's name says them, which takes a tenth of the time."""
    sample, prepared = evidence.sample, evidence.normal
    if not len(sample):
        return ()
    found: list[Match] = []
    is_session = picture.vectors[0].vector.kind in SESSIONS
    for share, member in picture.named:
        if max(share.packets, share.bytes) < SMALLEST or (share.vector.kind in _REMAINS and is_session):
            continue
        part = np.flatnonzero(member)
        search = None if plain else partial(refined, normal=prepared, background=background)
        for match in _of_vector(target, share.vector, sample[part], picture, search, evidence):
            if match not in found:
                found.append(match)
    scored = [one for one in _joined(list(map(evidence.score, found)), evidence) if evidence.is_worth(one.match)]
    scored.sort(key=lambda one: -one.coverage)
    return _steady(tuple(scored[:MOST]), before, evidence)


def settled(before: Sequence[Signature], evidence: Evidence) -> tuple[Signature, ...]:
    """The rules of before, if nothing better needs to be looked for."""
    if not before or not len(evidence.sample):
        return ()
    old = tuple(evidence.score(one.match) for one in before)
    good = all(one.separates and evidence.is_worth(one.match) for one in old)
    known = [one.collateral is None for one in old] == [one.collateral is None for one in before]
    if not old or not good or not known or _together(old, evidence) < NEARLY_ALL:
        return ()
    return tuple(sorted(old, key=lambda one: -one.coverage))


def _steady(new: tuple[Signature, ...], before: Sequence[Signature], evidence: Evidence) -> tuple[Signature, ...]:
    """The rules of before, scored anew, while they catch nearly as much and hurt no more."""
    old = tuple(evidence.score(one.match) for one in before)
    if not old or not all(evidence.is_worth(one.match) for one in old):
        return new
    worst_new, worst_old = (max((one.collateral or 0.0 for one in some), default=0.0) for some in (new, old))
    caught_new, caught_old = (_together(some, evidence) for some in (new, old))
    stays = caught_old >= caught_new - LOSES and worst_old <= max(worst_new, BEARABLE)
    # What has only been limited while nobody knew better is dropped once it may be.
    stays &= all(one.separates for one in old) or not all(one.separates for one in new)
    return tuple(sorted(old, key=lambda one: -one.coverage)) if stays else new


def _together(some: Sequence[Signature], evidence: Evidence) -> float:
    """What several rules catch of the attack."""
    if not some:
        return 0.0
    hits = [
        np.logical_or.reduce([selected(one.match, entries) for one in some])
        for entries in (evidence.sample, evidence.normal.entries)
    ]
    return evidence.scale.kept(hits[0], hits[1])


def _of_vector(
    target: Network,
    vector: Vector,
    part: ANY,
    picture: Picture,
    search: Callable[[Match, ANY], Best] | None,
    evidence: Evidence,
) -> Iterator[Match]:
    """Rules for one vector's packets: the plain one, refined by `search` as far as the packets allow; another for its
    fragments."""
    later = is_later(part)
    if vector.kind == "ip_fragment_flood":
        yield fragment_rule(target, part)
        return
    if vector.kind in SESSIONS:
        yield from _sessions(target, part, picture)
        return
    ported = part[~later]
    if len(ported) >= max(1, SMALLEST * len(part)):
        for base in bases(target, vector, ported):
            if search is None:
                found = iter((base,))
            else:
                found = _narrower(search(base, ported[selected(base, ported)]), ported, picture, evidence)
            for match in found:
                yield match if evidence.normal.tells else _barer(match, ported)
    if later.any() and later.mean() >= SMALLEST:
        yield fragment_rule(target, part[later])


def _barer(match: Match, part: ANY) -> Match:
    """SYNs without options, where all of them are: nobody knows what is normal, but none of those is a visitor's."""
    if match.tcp_flags != SYN_ONLY or match.source is not None or match.packet_length is not None:
        return match
    barest = replace(match, packet_length=bare(match))
    return barest if selected(barest, part).mean() >= NEARLY_ALL else match


def _narrower(best: Best, part: ANY, picture: Picture, evidence: Evidence) -> Iterator[Match]:
    """The rule found; by source where that would hurt others, or might, and the sources are few and real."""
    if picture.spoofed is False and not evidence.score(best.match).separates:
        sources = few_sources(part)
        if sources:
            yield from (replace(best.plain, source=source) for source in sources)
            return
    yield best.match


def _sessions(target: Network, part: ANY, picture: Picture) -> Iterator[Match]:
    """For completed connections: their sources, if few; else the service, which the harm it does makes a limit."""
    ports = few(part["destination_port"], MOST_VALUES)
    plain = Match(destination=target, protocol=Numeric.only(TCP))
    served = replace(plain, destination_port=Numeric.only(*ports)) if ports else plain
    sources = few_sources(part) if picture.spoofed is False else ()
    yield from (replace(served, source=source) for source in sources) if sources else (served,)


def few_sources(part: ANY) -> tuple[Network, ...]:
    """At most four hosts, or networks of the size customers get, that send nearly all of it; none: they are many."""
    keys, counts = np.unique(part[["source_high", "source_low"]], return_counts=True)
    hosts = [address(int(one["source_high"]), int(one["source_low"])) for one in keys] if len(keys) <= 4_096 else []
    for length in (None, 24 if hosts and hosts[0].version == 4 else 56):
        amounts: dict[Network, int] = {}
        for host, count in zip(hosts, counts.tolist(), strict=False):
            network = host if length is None else host.supernet(new_prefix=length)
            amounts[network] = amounts.get(network, 0) + count
        best = sorted(amounts, key=lambda network: (-amounts[network], str(network)))[:MOST]
        if best and sum(amounts[network] for network in best) >= 0.98 * len(part):
            return tuple(ip_network(network) for network in best if amounts[network] >= 0.01 * len(part))
    return ()


def _joined(found: list[Signature], evidence: Evidence) -> list[Signature]:
    """Rules that separate and differ in the values of a single component become one: a router holds few."""
    kept = list(found)
    at = 0
    while at < len(kept):
        one = kept[at]
        for other in kept[at + 1 :]:
            union = _union(one.match, other.match) if one.separates and other.separates else None
            joined = evidence.score(union) if union is not None else None
            if joined is not None and joined.separates:
                kept[at] = joined
                kept.remove(other)
                break
        else:
            at += 1
    return kept


def _union(one: Match, other: Match) -> Match | None:
    differing = [
        component for component in Component if getattr(one, component.attribute) != getattr(other, component.attribute)
    ]
    if len(differing) != 1:
        return None
    name, maximum = differing[0].attribute, MAXIMUM.get(differing[0], 0)
    values = getattr(one, name), getattr(other, name)
    if not isinstance(values[0], Numeric) or not isinstance(values[1], Numeric):
        return None
    joined = Numeric(values[0].groups + values[1].groups).normal(maximum)
    return replace(one, **{name: joined}) if operators(joined, maximum) <= MOST_VALUES else None  # type: ignore[arg-type]
