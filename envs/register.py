"""The environments' ids, registered by string entry point: nothing of them is imported until one is made."""

from __future__ import annotations

import gymnasium

SIM_ID = "drlctl/OffloadSim-v0"
LIVE_ID = "drlctl/OffloadLive-v0"


def register_envs() -> None:
    """Make `gymnasium.make` and `gymnasium.make_vec` know the ids; harmless when repeated."""
    if SIM_ID not in gymnasium.registry:
        gymnasium.register(SIM_ID, entry_point="envs.make:make_sim", vector_entry_point="envs.make:make_sim_vec")
    if LIVE_ID not in gymnasium.registry:
        gymnasium.register(LIVE_ID, entry_point="envs.make:make_live", nondeterministic=True)
