"""Prometheus numbers. What is durable is counted in the database at each scrape, so it is right with any
number of processes and after a restart; only latencies and refusals are kept in this process."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from curation import telemetry
from curation.errors import RefurbishError
from curation.store import health
from curation.store.workspace import Workspace
from webhooks.model import Model

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Label Studio gives up after 1 s."""

log = telemetry.logger("metrics")


class Metrics:
    """The numbers of one process, and a view of those in the database."""

    def __init__(self, workspace: Workspace) -> None:
        self.registry = CollectorRegistry()
        self.latency = Histogram(
            "refurbish_request_seconds",
            "Time to answer a request, by route (this process).",
            ["route", "method", "status"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.refused = Counter(
            "refurbish_deliveries_refused",
            "Deliveries that were not stored, by reason (this process).",
            ["reason"],
            registry=self.registry,
        )
        for reason in ("secret", "size", "read", "database"):
            self.refused.labels(reason)
        self.registry.register(StoredCounts(workspace))

    def watch(self, model: Model) -> None:
        """Show whether this process answers by the newest release."""
        words = "1 if this process does not answer by the newest release, since it failed; another model answers, or none."
        gauge = Gauge("refurbish_model_refused", words, registry=self.registry)
        gauge.set_function(lambda: float(model.refused is not None))

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self.registry)


class StoredCounts(Collector):
    """Counts by SQL at scrape time; `refurbish_database_up` is 0 when that fails, and the counts are left out."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: registering must not ask the database."""
        return []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One scrape."""
        try:
            with self.workspace.db.read() as session:
                counts = health.counts(session)
        except (RefurbishError, SQLAlchemyError) as error:
            log.warning("scrape without database", error=str(error))
            yield GaugeMetricFamily("refurbish_database_up", "Whether the database answers.", 0)
            return
        yield GaugeMetricFamily("refurbish_database_up", "Whether the database answers.", 1)
        yield _family("refurbish_inbox", "Deliveries, by state.", ("state",), counts.inbox)
        yield _family("refurbish_jobs", "Jobs, by state.", ("state",), counts.jobs)
        yield _family("refurbish_labels", "Current labels, by question and source.", ("question", "source"), counts.labels)
        yield _family("refurbish_review_items", "Questions to moderators, by state.", ("state",), counts.review)
        yield GaugeMetricFamily("refurbish_hard_questions", "Open questions that several moderators skipped.", counts.n_hard)
        yield GaugeMetricFamily("refurbish_oldest_due_job_seconds", "Age of the oldest job that is due.", counts.oldest_due_s)
        yield GaugeMetricFamily(
            "refurbish_missed_hooks", "Changes that reconciliation found and no hook had brought.", counts.n_missed_hooks
        )


def _family(name: str, words: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family
