"""What is said of the training job when the system beside which it ran is stopped."""

from __future__ import annotations

from drlctl.watching import job_line
from envs.system import JobReport


def test_what_a_job_came_to_is_told_with_its_mean_tau() -> None:
    """And that its weights go with the nodes; before the first round there is nothing to tell."""
    report = JobReport(num_rounds=4, num_steps=70, initial_loss=2.3302, final_loss=0.5891)
    assert job_line(report) == (
        "the job beside the requests: 4 rounds of 17.5 local steps on average, test loss 2.330 to 0.589; its weights are not kept"
    )
    none = JobReport(num_rounds=0, num_steps=0, initial_loss=2.33, final_loss=2.33)
    assert job_line(none) == "the job beside the requests: no round was done"
