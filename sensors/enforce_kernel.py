"""The kernel's side: the table `stopbank` through `nft`, one transaction at a time. Touches no other table."""

import subprocess
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pyroute2

from rules.match import Network
from rules.nft import Table, Tally, build, read_tallies, removal, transaction
from rules.nft_rule import TABLE, Compiled
from rules.rule import RuleId

PATIENCE_SECONDS = 20.0
"""For one nft; it takes 0.2 s for a thousand rules."""


class NftFailed(RuntimeError):
    """nft refused, could not run, or took too long; the kernel holds what it held before."""


class Kernel:
    """Knows what it loaded last, so that a change costs only what changed."""

    def __init__(self, nft: str) -> None:
        self._nft = nft
        self._present: Table | None = None

    def load(self, rules: Sequence[Compiled]) -> None:
        """Make the table hold these rules and no others; raises `NftFailed` and leaves the table as it was."""
        wanted = build(rules)
        if wanted == self._present:
            return
        if self._present is not None:
            try:
                self._run(transaction(wanted, self._present))
            except NftFailed:
                # Somebody else may have touched the table: replace it instead of building on it.
                self.forget()
        if self._present is None:
            self._run(transaction(wanted))
        self._present = wanted

    def forget(self) -> None:
        """Distrust what stands there: the next load replaces the table."""
        self._present = None

    def culprits(self, rules: Sequence[Compiled]) -> tuple[Compiled, ...]:
        """Which of the rules nft refuses, found by halving; nothing is loaded."""
        if not rules or self.takes(rules):
            return ()
        if len(rules) == 1:
            return (rules[0],)
        middle = len(rules) // 2
        return self.culprits(rules[:middle]) + self.culprits(rules[middle:])

    def takes(self, rules: Sequence[Compiled]) -> bool:
        """Whether nft would load these, in a dry run; without any, whether it works at all."""
        try:
            self._run(transaction(build(rules)), "-c")
        except NftFailed:
            return False
        return True

    def tallies(self) -> dict[RuleId, Tally]:
        """Counters of every rule that stands; raises `NftFailed` when the table is gone."""
        return read_tallies(self._call("-j", "list", "counters", "table", "inet", TABLE))

    def remove(self) -> None:
        """Take the table away, whoever made it."""
        self.forget()
        self._run(removal())

    def _run(self, document: str, *options: str) -> None:
        self._call("-j", *options, "-f", "-", given=document)

    def _call(self, *arguments: str, given: str = "") -> str:
        try:
            done = subprocess.run(
                [self._nft, *arguments],
                input=given,
                capture_output=True,
                text=True,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as failed:
            raise NftFailed(f"{self._nft}: {failed}") from failed
        if done.returncode:
            raise NftFailed(f"{self._nft}: {done.stderr.strip()[:500]}")
        return done.stdout


def own_loopbacks() -> tuple[Network, ...]:
    """Addresses on this machine's loopback interface, but for those that never leave it: routers peer with these."""
    with pyroute2.IPRoute() as netlink:
        given = [dict(message["attrs"])["IFA_ADDRESS"] for message in netlink.get_addr(index=1)]
    return tuple(ip_network(address) for address in given if not ip_address(address).is_loopback)
