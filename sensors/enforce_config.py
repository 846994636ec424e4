"""ExaBGP's configuration and environment on an enforcing machine: passive sessions that receive raw updates."""

from rules.neighbour import SessionFamily
from sensors.enforce_settings import EnforceSettings, Source

PROCESS = "enforce"


def render(settings: EnforceSettings) -> str:
    """`enforce.conf`; it holds MD5 keys, so whoever writes it gives it mode 0600."""
    process = f"process {PROCESS} {{\n\trun {' '.join(settings.command)};\n\tencoder json;\n\trespawn true;\n}}\n"
    return "\n".join([process, *(_neighbour(settings, source) for source in settings.sources)])


def environment(settings: EnforceSettings) -> dict[str, str]:
    """What ExaBGP must find in its environment; the dotted names on purpose, the others are not all read."""
    return {
        "exabgp.api.ack": "false",
        "exabgp.api.cli": "false",
        "exabgp.api.encoder": "json",
        "exabgp.api.respawn": "true",
        "exabgp.api.terminate": "false",
        "exabgp.daemon.daemonize": "false",
        "exabgp.daemon.user": settings.user,
        "exabgp.log.destination": "stderr",
        "exabgp.log.level": "WARNING",
        "exabgp.reactor.speed": "0.1",
    }


def _neighbour(settings: EnforceSettings, source: Source) -> str:
    lines = [
        f"router-id {settings.router_id}",
        f"local-address {settings.local_address}",
        f"local-as {settings.local_as}",
        f"peer-as {source.remote_as}",
        f"hold-time {settings.hold_time_seconds}",
        "passive true",
        f"listen {settings.port}",
        "adj-rib-in false",
        # We announce nothing, but without it ExaBGP complains about route refresh.
        "adj-rib-out true",
    ]
    if source.md5_password is not None:
        lines.append(f'md5-password "{source.md5_password}"')
    body = "".join(f"\t{line};\n" for line in lines)
    families = "".join(f"\t\t{family.value};\n" for family in SessionFamily if family in source.families)
    return (
        f"neighbor {source.address} {{\n{body}"
        f"\tfamily {{\n{families}\t}}\n"
        "\tcapability {\n\t\tasn4 enable;\n\t\troute-refresh enable;\n\t}\n"
        f"\tapi {{\n\t\tprocesses [ {PROCESS} ];\n\t\tneighbor-changes;\n"
        # The bytes as they came: ExaBGP's own words for FlowSpec are lossy.
        "\t\treceive {\n\t\t\tpackets;\n\t\t\tupdate;\n\t\t}\n\t}\n}\n"
    )
