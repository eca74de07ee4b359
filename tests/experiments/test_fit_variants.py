"""The jobs of a comparison can all be, and their summaries say what they were."""

from __future__ import annotations

import pytest

from experiments.fit_summary import HEADER, fit_grid, fit_legend, summarise_fit
from experiments.fit_variants import every_variant
from runtime.messages import DataSpec, DistilSpec, FitJob, LocalSpec, MaskingCost, PrivacyConfig, RoundRecord, TauSpec, TransferSpec

BASE_JOBS = [
    FitJob(),
    FitJob(data=DataSpec(root_fraction=0.5), transfer=TransferSpec()),
    FitJob(secure_aggregation=True),
    FitJob(root="edge"),
    FitJob(local=LocalSpec(proximal=0.1, max_gradient_norm=1.0)),
    FitJob(architecture="hierarchical", edge_rounds=2),
    FitJob(architecture="split", cut=2, labels_stay=True),
    FitJob(privacy=PrivacyConfig(max_norm=1.0, noise_multiplier=1.0, sampling_fraction=1.0)),
    FitJob(compressor="dgc+qsgd8"),
    FitJob(aggregator="krum", tau=TauSpec(rule="adaptive")),
]


@pytest.mark.parametrize("base", BASE_JOBS)
def test_every_variant_is_a_job_of_its_own(base: FitJob) -> None:
    """Names differ, none is refused, and where a base is trained there is something to train it on."""
    jobs = every_variant(base)
    assert len({job.name for job in jobs}) == len(jobs)
    assert {job.data.num_clients for job in jobs} == {base.data.num_clients}
    found = {job.name: job.architecture for job in jobs}
    assert found["federated"] == found["FedProx"] == "federated"
    assert all(found.get(name, name) == name for name in ("hierarchical", "centralised", "split", "local", "gossip"))
    assert {"hierarchical", "split"}.issubset(found) == (base.root == "cloud")
    moved = [job for job in jobs if job.name.startswith("transfer-")]
    assert [job.data.root_fraction for job in moved] == 2 * [base.data.root_fraction or 0.2]
    assert [job.transfer is not None and job.transfer.distil is not None for job in moved] == [False, True]


def test_a_summary_says_what_was_taken_over_and_how_long_the_base_took() -> None:
    """In words, and once for all rounds."""
    job = FitJob(data=DataSpec(root_fraction=0.2), transfer=TransferSpec(frozen=2, tuned=1, distil=DistilSpec(share=0.5)))
    first, second = (
        RoundRecord(round=number, tau=1, at_s=1.0, clients=(), loss=1.0, compute_s=1.0, transfer_s=0.0, waiting_s=0.0, base_s=base_s)
        for number, base_s in ((1, 2.5), (2, 0.0))
    )
    summary = summarise_fit(job, [first, second])
    assert (summary.transfer, summary.base_s) == ("2 frozen, 1 tuned, distilled 0.5 at T 2", 2.5)
    assert summarise_fit(FitJob(), [first]).transfer == ""


def test_rounds_are_counted_where_not_each_has_a_record() -> None:
    """A job without a server has records of its evaluated rounds alone: the target is reached after six rounds, and not after three."""
    records = [
        RoundRecord(
            round=2 * number, tau=1, at_s=1.0, clients=(), loss=1.0, accuracy=number / 4, compute_s=1.0, transfer_s=0.0, waiting_s=0.0
        )
        for number in (1, 2, 3, 4)
    ]
    summary = summarise_fit(FitJob(architecture="local", rounds=8, evaluate_every=2, target_accuracy=0.7), records)
    assert summary.rounds == 8
    assert summary.reached is not None
    assert summary.reached.rounds == 6


def test_a_summary_says_that_secure_aggregation_was_on_and_what_it_cost() -> None:
    """In the table as well."""
    cost = MaskingCost(up_bytes=10, down_bytes=20, exchange_s=0.5, reveal_s=0.25)
    record = RoundRecord(round=1, tau=1, at_s=1.0, clients=(), loss=1.0, compute_s=1.0, transfer_s=0.0, waiting_s=0.0, masking=cost)
    summary = summarise_fit(FitJob(secure_aggregation=True), [record, record])
    assert (summary.secure_aggregation, summary.masking_bytes, summary.masking_s) == (True, 60, 1.5)
    assert fit_grid([summary]).rows[0][0] == "fit (secure)"


def test_the_legend_tells_what_the_columns_do_not() -> None:
    """Where a job has no target, what "to target" is instead is said; a table with a figure that nobody explains is worth little."""
    said = " ".join(fit_legend())
    assert all(word in said for word in ("seconds", "compute", "transfer", "waiting", "raw", "MODELLED", "missing", "99%"))
    assert {"s to target", "kB to target"} <= set(HEADER)
