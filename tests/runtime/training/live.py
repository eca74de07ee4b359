"""Jobs on the nodes that live tests share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from runtime.launch import RunningNodes
from runtime.messages import FitJob
from runtime.training.places import assign_roles
from runtime.training.session import FitSession


@contextlib.contextmanager
def open_session(cluster: RunningNodes, job: FitJob) -> Iterator[FitSession]:
    """A session with cloud, edge and as many devices as the job has clients; the others have no part in it.

    Whatever becomes of it, the nodes leave the job afterwards, and those that are dead are started again.
    """
    devices = [name for name in cluster.upstreams if name not in cluster.upstreams.values()]
    left_out = devices[job.data.num_clients :]
    upstreams = {name: above for name, above in cluster.upstreams.items() if name not in left_out}
    with FitSession(job, assign_roles(job, upstreams, cluster.addresses)) as session:
        try:
            yield session
        finally:
            for name in [name for name, process in cluster.processes.items() if not process.alive]:
                cluster.restart(name)
            session.stop()
