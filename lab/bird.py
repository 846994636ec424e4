"""BIRD 2: a router that keeps FlowSpec, enforces blackholes in its kernel, and can validate (RFC 8955 §6)."""

import re
from ipaddress import IPv4Network
from pathlib import Path

from lab.bird_text import read_flowspec
from lab.router import Router
from lab.session import Configuration, HeldFlowSpec, Session
from rules.match import Family, Network
from rules.neighbour import SessionFamily

_TABLES = {Family.IPV4: "flow4tab", Family.IPV6: "flow6tab"}
_CHANNELS = {
    SessionFamily.IPV4_UNICAST: "ipv4 {{ import filter blackholes; export none; }};",
    SessionFamily.IPV6_UNICAST: "ipv6 {{ import filter blackholes; export none; }};",
    SessionFamily.IPV4_FLOW: "flow4 {{ table flow4tab; import all; export none; validate {validate}; }};",
    SessionFamily.IPV6_FLOW: "flow6 {{ table flow6tab; import all; export none; validate {validate}; }};",
}
_ESTABLISHED = re.compile(r"^(\S+)\s+BGP\s.*\bEstablished\b", re.MULTILINE)


class Bird(Router):
    """bird(8) with private configuration and control socket."""

    @property
    def socket(self) -> Path:
        """The control socket: `birdc -s SOCKET`."""
        return self.directory / "bird.ctl"

    def established(self) -> bool:
        up = set(_ESTABLISHED.findall(self.ask("show protocols")))
        return self.is_whole and up >= {session.name for session in self.configuration.sessions}

    def flowspec(self) -> tuple[HeldFlowSpec, ...]:
        return tuple(held for family in Family for held in read_flowspec(self.flowspec_text(family), family))

    def flowspec_text(self, family: Family) -> str:
        self._require_running()
        return self.ask(f"show route table {_TABLES[family]} all")

    def ask(self, command: str) -> str:
        """What birdc answers."""
        return self._ask(["birdc", "-s", self.socket, *command.split()], check=False)

    def _launch(self) -> None:
        configuration = self._write("bird.conf", render(self.configuration))
        self._spawn("bird", "-f", "-c", configuration, "-s", self.socket, "-P", self.directory / "bird.pid")

    def _is_ready(self) -> bool:
        return "Daemon is up and running" in self.ask("show status")


def render(configuration: Configuration) -> str:
    """bird.conf."""
    communities = ", ".join(f"({high},{low})" for high, low in configuration.blackhole_communities)
    head = f"""log stderr all;
router id {configuration.router_id};
# Validation walks the unicast tables from the rule's destination upwards, which needs the trie.
ipv4 table master4 {{ trie yes; }}
ipv6 table master6 {{ trie yes; }}
flow4 table flow4tab;
flow6 table flow6tab;
protocol device {{ scan time 10; }}
protocol direct {{ ipv4; ipv6; }}
protocol kernel kernel4 {{ ipv4 {{ import none; export filter {{ if source = RTS_BGP then accept; reject; }}; }}; }}
protocol kernel kernel6 {{ ipv6 {{ import none; export filter {{ if source = RTS_BGP then accept; reject; }}; }}; }}
filter blackholes {{
  if bgp_community ~ [ {communities} ] && (net.len = 32 || net.len = 128) then {{
    dest = RTD_BLACKHOLE;
    bgp_local_pref = 200;
    bgp_community.add((65535,65281));
    accept;
  }}
  reject;
}}
"""
    parts = [head, *(_static(version, configuration.routes) for version in (4, 6))]
    parts += [_protocol(session, configuration.validate) for session in configuration.sessions]
    return "\n".join(part for part in parts if part)


def _static(version: int, routes: tuple[Network, ...]) -> str:
    mine = [route for route in routes if isinstance(route, IPv4Network) == (version == 4)]
    lines = "\n".join(f"  route {route} unreachable;" for route in mine)
    return f"protocol static static{version} {{\n  ipv{version};\n{lines}\n}}\n" if mine else ""


def _protocol(session: Session, validate: bool) -> str:
    # Without multihop, BIRD rejects every blackhole whose next hop is not on a connected network.
    lines = [
        f"local {session.local_address} port {session.port} as {session.local_as};",
        f"neighbor {session.peer_address} port {session.port} as {session.peer_as};",
        f"multihop {session.gtsm_hops or 1};" if session.gtsm_hops or not session.is_internal else "multihop;",
        f"hold time {session.hold_time_seconds};",
        "strict bind yes;",  # other BGP speakers may listen on other addresses of the namespace
        "connect delay time 1; connect retry time 2; error wait time 1,3;",
    ]
    if session.gtsm_hops:
        lines.append("ttl security on;")
    if session.passive:
        lines.append("passive on;")
    if session.md5_password:
        lines.append(f'password "{session.md5_password}";')
    if session.graceful_restart_seconds:
        lines.append(f"graceful restart on; graceful restart time {session.graceful_restart_seconds};")
    else:
        lines.append("graceful restart off;")
    state = "on" if validate else "off"
    lines += [_CHANNELS[family].format(validate=state) for family in SessionFamily if family in session.families]
    return f"protocol bgp {session.name} {{\n  " + "\n  ".join(lines) + "\n}\n"
