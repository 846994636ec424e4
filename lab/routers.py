"""The routers of the lab in one place: BIRD, FRR and GoBGP, with the values they are configured by and answer with.

with namespace("edge") as edge, Bird(edge, Configuration(router_id, (Session.facing(neighbour),))) as bird:
    bird.wait_established()
    assert bird.flowspec() == ()
"""

from lab.bird import Bird
from lab.frr import Frr
from lab.gobgp import GoBgp
from lab.router import Router
from lab.session import Configuration, HeldFlowSpec, Session, Validity

__all__ = ["Bird", "Configuration", "Frr", "GoBgp", "HeldFlowSpec", "Router", "Session", "Validity"]
