"""ExaBGP's configuration and environment, from typed neighbours. `exabgp.conf.example` says the same by hand.

The configuration holds MD5 keys: whoever writes it to disk gives it mode 0600 (`write` does).
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rules.errors import Problem, Refused
from rules.neighbour import Neighbour, SessionFamily

PROCESS = "stopbank"
"""The name of our process inside ExaBGP."""

_ARGUMENT = re.compile(r"[A-Za-z0-9_./:=@%+,-]+")
_LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


def render(neighbours: Iterable[Neighbour], command: Sequence[str]) -> str:
    """`exabgp.conf`: our process, started with this command line, and every neighbour bound to it."""
    return "\n".join([_process(command), *(_neighbour(one) for one in neighbours)])


def environment(user: str, log_level: str = "WARNING") -> dict[str, str]:
    """What ExaBGP must find in its environment; the dotted names on purpose, the others are not all read."""
    problems = []
    if not _USER.fullmatch(user):
        problems.append(Problem("daemon.user", user, "is no user name"))
    if log_level not in _LEVELS:
        problems.append(Problem("log.level", log_level, f"must be one of {', '.join(_LEVELS)}"))
    if problems:
        raise Refused.all(problems)
    return {
        "exabgp.api.ack": "true",
        "exabgp.api.cli": "false",
        "exabgp.api.chunk": "1000",
        "exabgp.api.encoder": "json",
        "exabgp.api.respawn": "true",
        "exabgp.api.show-routes-format": "v2",
        "exabgp.api.terminate": "false",
        "exabgp.daemon.daemonize": "false",
        "exabgp.daemon.user": user,
        "exabgp.log.destination": "stderr",
        "exabgp.log.level": log_level,
        "exabgp.reactor.speed": "0.1",
    }


def environment_text(variables: Mapping[str, str]) -> str:
    """The same as `NAME=value` lines; read by `env`, since systemd and shells refuse dotted names."""
    return "".join(f"{name}={value}\n" for name, value in sorted(variables.items()))


def write(path: Path, text: str) -> None:
    """Replace a file in one step, readable by its owner only."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)


def _process(command: Sequence[str]) -> str:
    wrong = [
        Problem("run", word, "ExaBGP can't take this word in a command line")
        for word in command
        if not _ARGUMENT.fullmatch(word)
    ]
    if not command or not command[0].startswith("/"):
        wrong.append(Problem("run", " ".join(command), "must start with the absolute path of a program"))
    if wrong:
        raise Refused.all(wrong)
    # respawn must stay on: an ended process without it makes the daemon crash on the next session event.
    return f"process {PROCESS} {{\n\trun {' '.join(command)};\n\tencoder json;\n\trespawn true;\n}}\n"


def _neighbour(one: Neighbour) -> str:
    lines = [
        f'description "{one.name}"',
        f"router-id {one.router_id}",
        f"local-address {one.local_address}",
        f"local-as {one.local_as}",
        f"peer-as {one.peer_as}",
        f"hold-time {one.hold_time_seconds}",
        *_transport(one),
        "group-updates true",
        "adj-rib-in false",
        "adj-rib-out true",
        # Else ExaBGP says End-of-RIB before we have announced anything, and routers drop what they kept for us.
        "manual-eor true",
    ]
    body = "".join(f"\t{line};\n" for line in lines)
    families = "".join(f"\t\t{family.value};\n" for family in SessionFamily if family in one.families)
    restart = f"\t\tgraceful-restart {one.graceful_restart_seconds};\n" if one.graceful_restart_seconds else ""
    return (
        f"neighbor {one.peer_address} {{\n{body}"
        f"\tfamily {{\n{families}\t}}\n"
        f"\tcapability {{\n\t\tasn4 enable;\n\t\troute-refresh enable;\n{restart}\t}}\n"
        f"\tapi {{\n\t\tprocesses [ {PROCESS} ];\n\t\tneighbor-changes;\n\t\tnegotiated;\n"
        # Received updates only to raise an alarm: nothing is imported.
        f"\t\treceive {{\n\t\t\tparsed;\n\t\t\tnotification;\n\t\t\tupdate;\n\t\t}}\n\t}}\n}}\n"
    )


def _transport(one: Neighbour) -> list[str]:
    lines = []
    if one.passive:
        lines += ["passive true", f"listen {one.port}"]
    else:
        lines += ["passive false", f"connect {one.port}"]
    if one.md5_password is not None:
        lines.append(f'md5-password "{one.md5_password}"')
    if one.gtsm_hops is not None:
        # RFC 5082: sent with 255, so a peer that far away arrives with at least this.
        lines += ["outgoing-ttl 255", f"incoming-ttl {256 - one.gtsm_hops}"]
    elif one.multihop_ttl is not None:
        lines.append(f"outgoing-ttl {one.multihop_ttl}")
    return lines
