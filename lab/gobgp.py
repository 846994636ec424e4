"""GoBGP: carries FlowSpec and blackholes, enforces neither; its JSON holds every operator byte."""

import json
from typing import Any

from lab.gobgp_json import read_blackholes, read_flowspec
from lab.router import Router
from lab.session import Configuration, HeldFlowSpec, Session
from rules.match import Family, Network
from rules.neighbour import SessionFamily

_NAMES = {
    SessionFamily.IPV4_UNICAST: "ipv4-unicast",
    SessionFamily.IPV6_UNICAST: "ipv6-unicast",
    SessionFamily.IPV4_FLOW: "ipv4-flowspec",
    SessionFamily.IPV6_FLOW: "ipv6-flowspec",
}
_ESTABLISHED = 6
API_PORT = 50051
"""gobgp's default, so that `gobgp` works inside the namespace as it is."""


class GoBgp(Router):
    """gobgpd with its API on the namespace's loopback."""

    def established(self) -> bool:
        neighbours = self._json("neighbor")
        if not self.is_whole or not isinstance(neighbours, list):
            return False
        states = {one["state"]["neighbor_address"]: one["state"].get("session_state") for one in neighbours}
        return all(states.get(str(session.peer_address)) == _ESTABLISHED for session in self.configuration.sessions)

    def flowspec(self) -> tuple[HeldFlowSpec, ...]:
        return tuple(held for family in Family for held in read_flowspec(self._rib(f"{family.label}-flowspec"), family))

    def flowspec_text(self, family: Family) -> str:
        return self._ask(["gobgp", "global", "rib", "-a", f"{family.label}-flowspec"], check=False)

    def blackholes(self) -> tuple[Network, ...]:
        """Host routes with a blackhole community in its table: GoBGP has no kernel."""
        wanted = self.configuration.blackhole_communities
        return tuple(prefix for label in ("ipv4", "ipv6") for prefix in read_blackholes(self._rib(label), wanted))

    def _launch(self) -> None:
        configuration = self._write("gobgpd.toml", render(self.configuration))
        self._spawn(
            *("gobgpd", "-f", configuration, "--api-hosts", f"127.0.0.1:{API_PORT}", "--pprof-disable", "--log-plain")
        )

    def _is_ready(self) -> bool:
        return isinstance(self._json("neighbor"), list)

    def _rib(self, family: str) -> dict[str, Any]:
        self._require_running()
        table = self._json("global", "rib", "-a", family)
        return table if isinstance(table, dict) else {}

    def _json(self, *arguments: str) -> Any:
        answer = self._ask(["gobgp", "-j", *arguments], check=False)
        try:
            return json.loads(answer)
        except json.JSONDecodeError:  # not up yet, or the table is empty
            return None


def render(configuration: Configuration) -> str:
    """gobgpd.toml."""
    head = f"""[global.config]
  as = {configuration.local_as}
  router-id = "{configuration.router_id}"
  port = {configuration.sessions[0].port}
"""
    return head + "".join(_neighbour(session) for session in configuration.sessions)


def _neighbour(session: Session) -> str:
    lines = ["[[neighbors]]", "  [neighbors.config]"]
    lines += [f'    neighbor-address = "{session.peer_address}"', f"    peer-as = {session.peer_as}"]
    if session.md5_password:
        lines.append(f'    auth-password = "{session.md5_password}"')
    lines += ["  [neighbors.transport.config]", f'    local-address = "{session.local_address}"']
    lines += [f"    passive-mode = {str(session.passive).lower()}", f"    remote-port = {session.port}"]
    lines += ["  [neighbors.timers.config]", "    connect-retry = 2", "    idle-hold-time-after-reset = 1"]
    lines += [f"    hold-time = {session.hold_time_seconds}"]
    lines += [f"    keepalive-interval = {max(1, session.hold_time_seconds // 3)}"]
    if session.gtsm_hops:
        lines += ["  [neighbors.ttl-security.config]", "    enabled = true", f"    ttl-min = {256 - session.gtsm_hops}"]
    if session.graceful_restart_seconds:
        lines += ["  [neighbors.graceful-restart.config]", "    enabled = true"]
        lines += [f"    restart-time = {session.graceful_restart_seconds}"]
    for family in SessionFamily:
        if family in session.families:
            lines += _family(_NAMES[family], session.graceful_restart_seconds is not None)
    return "\n".join(lines) + "\n"


def _family(name: str, restarts: bool) -> list[str]:
    lines = ["  [[neighbors.afi-safis]]", "    [neighbors.afi-safis.config]", f'      afi-safi-name = "{name}"']
    if restarts:
        lines += ["    [neighbors.afi-safis.mp-graceful-restart.config]", "      enabled = true"]
    return lines
