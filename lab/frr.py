"""FRR: zebra, staticd and bgpd. Decodes FlowSpec and enforces none of it; blackholes go to its kernel.

Its FlowSpec text is lossy (`>= 8000 , <= 8010` prints AND and OR alike), so matches are not read back as values.
"""

import json
import re
import shutil
from pathlib import Path

from lab.namespaces import wait_until
from lab.router import Router
from lab.session import DISCARD_IPV4, DISCARD_IPV6, Configuration, HeldFlowSpec, Session
from rules.action import Action, Discard, RateLimit
from rules.match import Family
from rules.neighbour import SessionFamily

_DAEMONS = ("zebra", "staticd", "bgpd")
_BINARIES = Path("/usr/lib/frr")
_ADDRESS_FAMILIES = {
    SessionFamily.IPV4_UNICAST: "ipv4 unicast",
    SessionFamily.IPV6_UNICAST: "ipv6 unicast",
    SessionFamily.IPV4_FLOW: "ipv4 flowspec",
    SessionFamily.IPV6_FLOW: "ipv6 flowspec",
}
_RATE = re.compile(r"FS:rate ([0-9.]+)")


class Frr(Router):
    """zebra, staticd and bgpd in the foreground, with sockets in the run directory."""

    def established(self) -> bool:
        return self.is_whole and all(state == "Established" for state in self._states())

    def flowspec(self) -> tuple[HeldFlowSpec, ...]:
        return tuple(held for family in Family for held in read_flowspec(self.flowspec_text(family), family))

    def flowspec_text(self, family: Family) -> str:
        self._require_running()
        return self.ask(f"show bgp {family.label} flowspec detail")

    def ask(self, *commands: str) -> str:
        """What vtysh answers to one command, or to several in order."""
        each = [word for command in commands for word in ("-c", command)]
        return self._ask(["vtysh", "--vty_socket", self.directory, *each], check=False)

    def _launch(self) -> None:
        # The daemons drop to the user frr, and make their sockets as that.
        shutil.chown(self.directory, "frr", "frr")
        for daemon, configuration in render(self.configuration).items():
            self._write(f"{daemon}.conf", configuration)
            port = ["-p", str(self.configuration.sessions[0].port)] if daemon == "bgpd" else []
            self._spawn(
                *(_BINARIES / daemon, "-z", self.directory / "zserv.api", "-i", self.directory / f"{daemon}.pid"),
                *("--vty_socket", self.directory, "-f", self.directory / f"{daemon}.conf", "-P", "0"),
                *("--log", "stdout", "--log-level", "informational", *port),
            )
            self._wait_for_socket(daemon)

    def _wait_for_socket(self, daemon: str) -> None:
        wait_until(lambda: (self.directory / f"{daemon}.vty").exists(), f"{daemon} does not start", 30)

    def _is_ready(self) -> bool:
        return all(daemon in self.ask("show daemons") for daemon in _DAEMONS)

    def _configure(self) -> None:
        # bgpd closes the door on a peer until its start timer has run, and ExaBGP backs off by seconds.
        wait_until(lambda: "Idle" not in self._states(), "bgpd does not take sessions", 30)

    def _states(self) -> tuple[str, ...]:
        answer = json.loads(self.ask("show bgp neighbors json") or "{}")
        peers = [answer.get(str(session.peer_address), {}) for session in self.configuration.sessions]
        return tuple(str(peer.get("bgpState", "Idle")) for peer in peers)

    def stop(self) -> None:
        super().stop()
        for daemon in _DAEMONS:
            (self.directory / f"{daemon}.vty").unlink(missing_ok=True)

    def kill(self) -> None:
        super().kill()
        for daemon in _DAEMONS:
            (self.directory / f"{daemon}.vty").unlink(missing_ok=True)


def read_flowspec(printed: str, family: Family) -> tuple[HeldFlowSpec, ...]:
    """The entries of `show bgp … flowspec detail`: components in FRR's words, one per line, and the rate."""
    entries = printed.split("BGP flowspec entry:")[1:]
    return tuple(_held(entry, family) for entry in entries)


def _held(entry: str, family: Family) -> HeldFlowSpec:
    lines = [line.strip() for line in entry.splitlines()[1:] if line.strip()]
    actions = [line for line in lines if line.startswith(("FS:", "NH:", "UNK:"))]
    cut = lines.index(actions[0]) if actions else len(lines)
    return HeldFlowSpec(family, "\n".join(lines[:cut]), None, "\n".join(actions), _action(" ".join(actions)))


def _action(text: str) -> Action | None:
    found = _RATE.search(text)
    if found is None:
        return None
    rate = float(found[1])
    return RateLimit(int(rate)) if rate >= 1 else Discard()


def render(configuration: Configuration) -> dict[str, str]:
    """Each daemon's configuration."""
    communities = "\n".join(
        f"bgp community-list standard BLACKHOLE permit {high}:{low}"
        for high, low in configuration.blackhole_communities
    )
    bgpd = f"""frr defaults traditional
{communities}
ip prefix-list HOST4 permit 0.0.0.0/0 ge 32
ipv6 prefix-list HOST6 permit ::/0 ge 128
route-map BLACKHOLES permit 10
 match community BLACKHOLE
 match ip address prefix-list HOST4
 set ip next-hop {DISCARD_IPV4}
 set local-preference 200
 set community no-export additive
route-map BLACKHOLES permit 15
 match community BLACKHOLE
 match ipv6 address prefix-list HOST6
 set ipv6 next-hop global {DISCARD_IPV6}
 set local-preference 200
 set community no-export additive
route-map BLACKHOLES deny 100
{_process(configuration)}"""
    return {
        "zebra": "ip forwarding\nipv6 forwarding\n",
        "staticd": f"ip route {DISCARD_IPV4}/32 blackhole\nipv6 route {DISCARD_IPV6}/128 blackhole\n",
        "bgpd": bgpd,
    }


def _process(configuration: Configuration) -> str:
    lines = [
        f"router bgp {configuration.local_as}",
        f" bgp router-id {configuration.router_id}",
        " no bgp default ipv4-unicast",
        " no bgp ebgp-requires-policy",
    ]
    if any(session.graceful_restart_seconds for session in configuration.sessions):
        lines.append(" bgp graceful-restart")
    for session in configuration.sessions:
        lines += _neighbour(session)
    for family, name in _ADDRESS_FAMILIES.items():
        lines += _address_family(family, name, configuration.sessions)
    return "\n".join(lines) + "\n!\n"


def _neighbour(session: Session) -> list[str]:
    peer = f" neighbor {session.peer_address}"
    lines = [
        f"{peer} remote-as {session.peer_as}",
        f"{peer} description {session.name}",
        f"{peer} timers {max(1, session.hold_time_seconds // 3)} {session.hold_time_seconds}",
        f"{peer} timers connect 2",
        f"{peer} update-source {session.local_address}",
    ]
    if not session.passive:
        lines.append(f"{peer} port {session.port}")
    if session.gtsm_hops:
        lines.append(f"{peer} ttl-security hops {session.gtsm_hops}")
    if not session.is_internal:
        lines.append(f"{peer} disable-connected-check")
    if session.md5_password:
        lines.append(f"{peer} password {session.md5_password}")
    if session.passive:
        lines.append(f"{peer} passive")
    return lines


def _address_family(family: SessionFamily, name: str, sessions: tuple[Session, ...]) -> list[str]:
    lines = [f" address-family {name}"]
    for session in sessions:
        if family in session.families:
            lines.append(f"  neighbor {session.peer_address} activate")
            if "unicast" in name:
                lines.append(f"  neighbor {session.peer_address} route-map BLACKHOLES in")
            else:
                # Without it bgpd hands rules to zebra's policy routing, and zebra 8.4 dies of the second one.
                lines.append("  local-install lo")
    return [*lines, " exit-address-family"] if len(lines) > 1 else []
