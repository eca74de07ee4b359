"""What devices know of the training job: a round's weights bring its number, its tau and the loss; older news holds until they land."""

from __future__ import annotations

import numpy as np

_NUM_ROUNDS, _TAU, _LANDED, _LASTED, _LOSS, _DROP, _DRIFT = range(7)


class JobSight:
    """N devices' view of their jobs, in the order of envs/job_state.py's JOB_ROWS."""

    def __init__(self, num_envs: int) -> None:
        self._present, self._before = np.zeros((2, 7, num_envs))
        self._decided = np.zeros(num_envs)

    def start(self, tau: np.ndarray, loss: np.ndarray) -> None:
        """The first round's weights are there at time 0; `tau` and `loss` [N]."""
        self._present[:] = 0.0
        self._present[_TAU], self._present[_LOSS] = tau, loss
        self._before[:] = self._present
        self._decided[:] = -1.0

    def begin(self, envs: np.ndarray, landed_s: np.ndarray, tau: np.ndarray, loss: np.ndarray, drift: np.ndarray) -> None:
        """The next round of these environments: its weights land at `landed_s`; `drift` is the last one's; [n] each."""
        before = self._present[:, envs]
        self._before[:, envs] = before
        number, lasted_s, drop = before[_NUM_ROUNDS] + 1, landed_s - before[_LANDED], before[_LOSS] - loss
        self._present[:, envs] = np.stack([number, tau, landed_s, lasted_s, loss, drop, drift])

    def see(self, now_s: np.ndarray, steps_left: np.ndarray, outstanding_bytes: np.ndarray) -> np.ndarray:
        """[10, N] at `now_s`, when `steps_left` of the latest round are not done; a step under way is not.

        Steps are followed until the request before joins the device's queue; where that is after `now_s`, they are ahead by as much.
        """
        landed = self._present[_LANDED] <= now_s
        known = np.where(landed, self._present, self._before)
        done = np.maximum(np.floor(known[_TAU] - np.where(landed, steps_left, 0.0) + 1e-6), 0.0)
        return np.stack(
            [
                known[_NUM_ROUNDS],
                known[_TAU],
                done,
                now_s - known[_LANDED],
                known[_LASTED],
                known[_LOSS],
                known[_DROP],
                known[_DRIFT],
                outstanding_bytes,
                (known[_NUM_ROUNDS] > self._decided).astype(np.float64),
            ]
        )

    def decided(self, now_s: np.ndarray, which: np.ndarray) -> None:
        """Decisions at `now_s` had a tau, `which` bool [N]: none is due until the next round's weights are there."""
        landed = self._present[_LANDED] <= now_s
        known = np.where(landed, self._present[_NUM_ROUNDS], self._before[_NUM_ROUNDS])
        np.copyto(self._decided, known, where=which)
