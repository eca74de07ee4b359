"""Who sets the tau of a simulated job's rounds: its controller from outside, or adaptive tau, told what the convergence model knows.

A fixed tau is a rule of which nobody decides anything else.  Adaptive tau pays as live: its clients take one more gradient a round,
and send another, that of their first step, with the update.
"""

from __future__ import annotations

from envs.training_job import TrainingJob
from runtime.messages import TauSpec
from runtime.training.convergence import Progress
from runtime.training.tau_control import MORE_BYTES, MORE_GRADIENTS, AdaptiveTau, RoundReport

OVER = 0
"""In place of a tau: the budget pays for no further round."""


class TauRule:
    """What `TauSpec` asks for, in N environments."""

    def __init__(self, job: TrainingJob, spec: TauSpec | None, num_envs: int) -> None:
        """`spec`: None for a tau that is decided from outside, beginning with the job's own."""
        self._job = job
        self._adaptive: AdaptiveTau | None = None
        self.may_decide = spec is None or spec.rule == "decided"
        """Whether taus from outside count."""
        self.first_tau = spec.tau if spec is not None else job.tau
        self.more_steps, self.up_bytes = 0, job.up_bytes
        if spec is not None and spec.rule == "adaptive":
            self._adaptive = AdaptiveTau(learning_rate=job.learning_rate, budget=spec.budget_s, phi=spec.phi, max_tau=spec.max_tau)
            self._states = [self._adaptive.start()] * num_envs
            self.first_tau = self._states[0].tau
            self.more_steps, self.up_bytes = MORE_GRADIENTS, job.up_bytes + MORE_BYTES

    @property
    def adapts(self) -> bool:
        """Whether `after_round` has anything to say."""
        return self._adaptive is not None

    def after_round(self, env: int, before: Progress, tau: int, lasted_s: float) -> int | None:
        """The tau to come in an environment whose round of `tau` from `before` took so long, or OVER; None leaves it as it is."""
        if self._adaptive is None:
            return None
        step_s = self._job.step_s
        surface = self._job.convergence.surface(before, tau, self._job.learning_rate)
        report = RoundReport(step_cost=step_s, aggregation_cost=max(lasted_s - tau * step_s, 1e-3), spent=lasted_s, surface=surface)
        state = self._states[env] = self._adaptive.next(self._states[env], report)
        return OVER if state.finished else state.tau
