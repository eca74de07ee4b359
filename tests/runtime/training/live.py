"""Jobs on the nodes that live tests share."""

from __future__ import annotations

from runtime.launch import RunningNodes
from runtime.messages import FitJob
from runtime.training.session import FitSession, assign_roles


def open_session(cluster: RunningNodes, job: FitJob) -> FitSession:
    """A session with cloud, edge and as many devices as the job has clients; the others have no part in it."""
    devices = [name for name in cluster.upstreams if name not in cluster.upstreams.values()]
    left_out = devices[job.data.num_clients :]
    upstreams = {name: above for name, above in cluster.upstreams.items() if name not in left_out}
    return FitSession(job, assign_roles(job, upstreams, cluster.addresses))
