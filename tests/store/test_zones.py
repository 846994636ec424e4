"""Zones at the store's door: a name is not taken twice, a change sees what stands, addresses have one owner."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored import NOW
from strategies import zones

from rules.errors import Refused
from rules.zone import Mode, Zone
from store.store import Store


def meets(one: Zone, two: Zone) -> bool:
    pairs = [(own, other) for own in one.prefixes for other in two.prefixes]
    return any(own.version == other.version and own.overlaps(other) for own, other in pairs)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(zones(), zones(), st.booleans())
def test_two_owners_share_addresses_only_on_purpose(store: Store, one: Zone, two: Zone, shared: bool) -> None:
    for zone in store.zones():
        store.remove_zone(zone.name, "ann", NOW)
    one, two = replace(one, name="one"), replace(two, name="two")
    store.add_zone(one, "ann", NOW)
    is_foreign = one.owner != two.owner and meets(one, two)
    try:
        store.put_zone(two, "ann", NOW, shared=shared)
    except Refused as error:
        assert is_foreign and not shared
        assert {problem.field for problem in error.problems} == {"prefixes"}
    else:
        assert shared or not is_foreign
        # What stands may be written again as it is, and changed in anything but owner and prefixes.
        store.put_zone(replace(two, mode=Mode.AUTO), "ann", NOW)


def test_a_name_is_not_taken_twice(store: Store) -> None:
    (campus,) = store.zones()
    head = store.audit_head()
    with pytest.raises(Refused, match="already"):
        store.add_zone(replace(campus, mode=Mode.AUTO), "bob", NOW)
    assert (store.zones(), store.audit_head()) == ((campus,), head)


def test_a_change_sees_the_zone_as_it_stands_and_a_refused_one_leaves_it(store: Store) -> None:
    (campus,) = store.zones()
    changed = store.change_zone(campus.name, lambda zone: replace(zone, mode=Mode.AUTO), "bob", NOW)
    assert store.zones() == (changed,) and changed == replace(campus, mode=Mode.AUTO)
    with pytest.raises(Refused, match="prefix_factor"):
        store.change_zone(campus.name, lambda zone: replace(zone, prefix_factor=0.5), "bob", NOW)
    with pytest.raises(Refused, match="no zone"):
        store.change_zone("absent", lambda zone: zone, "bob", NOW)
    assert store.zones() == (changed,)


def test_sharing_is_in_the_audit(store: Store) -> None:
    inside = Zone("guest", (ip_network("203.0.1.0/24"),), owner="guest")
    store.put_zone(inside, "ann", NOW, shared=True)
    (row,) = store.audit_rows(limit=1)
    assert '"shared":["203.0.1.0/24"]' in row.detail
