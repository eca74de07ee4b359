"""Who does what in a training job, from who is below whom."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from runtime.codec import MAX_HEADER_BYTES
from runtime.errors import InvalidInput
from runtime.messages import FitJob, Role

NAMES_BYTES = MAX_HEADER_BYTES // 3
"""Of the clients of one job, together: a root's role and each record name them all in one header."""

BETWEEN: tuple[Role, ...] = ("aggregator", "relay", "server")
ROLES_DOWNWARDS: tuple[Role, ...] = ("root", "observer", *BETWEEN, "client", "peer")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A node in a job."""

    address: str
    role: Role
    clients: tuple[str, ...] = ()
    """Names of those whose updates it waits for."""
    client: int = -1


def assign_roles(job: FitJob, upstreams: Mapping[str, str], addresses: Mapping[str, str]) -> dict[str, Place]:
    """Who does what, from who is below whom: name -> name of the node above ("": the topmost), and name -> address.

    Nodes with nobody below are clients, in the order of the mapping; those between average in a hierarchy, have the stages
    behind the cut in split training, else pass on.  Where the job's root is the edge, the topmost node has no part in it.
    Raises InvalidInput unless there is one root, and a client for each part of the data, and their names fit into a message.
    """
    if job.root == "edge":
        topmost = {name for name, above in upstreams.items() if not above}
        upstreams = {name: "" if above in topmost else above for name, above in upstreams.items() if above}
    roots = [name for name, above in upstreams.items() if not above]
    leaves = [name for name in upstreams if name not in upstreams.values()]
    if len(roots) != 1 or len(leaves) != job.data.num_clients or roots == leaves:
        raise InvalidInput(f"a job of {job.data.num_clients} clients needs as many devices below one root; got {leaves} below {roots}")
    if sum(len(name.encode()) + 1 for name in leaves) > NAMES_BYTES:
        raise InvalidInput(f"the names of {len(leaves)} clients take more than {NAMES_BYTES} bytes: use fewer clients or shorter names")
    hierarchical, observed = job.architecture == "hierarchical", job.architecture in {"gossip", "local"}
    between: Role = "aggregator" if hierarchical else "server" if job.architecture == "split" else "relay"
    places = {}
    for name in upstreams:
        below = tuple(other for other, above in upstreams.items() if above == name)
        if name in leaves:
            others = tuple(leaves) if job.architecture == "gossip" else (name,) if observed else ()
            places[name] = Place(address=addresses[name], role="peer" if observed else "client", clients=others, client=leaves.index(name))
        elif name in roots:
            role: Role = "observer" if observed else "root"
            places[name] = Place(address=addresses[name], role=role, clients=below if hierarchical else tuple(leaves))
        else:
            places[name] = Place(address=addresses[name], role=between, clients=below)
    return places
