"""What Prometheus sees, in a registry of its own. Labels come from closed sets: routes, bundles, kinds of errors."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from relgrade.grade.document_cache import DocumentCache
from relgrade.serve.asking import Answer
from relgrade.serve.hosted import HostedModel, Reload
from relgrade.serve.scheduler import BatchReport

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SHARES = tuple(i / 10 for i in range(1, 11))


class Measures:
    """All metrics of one app."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.requests = Counter(
            "relgrade_requests",
            "Requests by route, dialect and status.",
            ["route", "dialect", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "relgrade_request_seconds", "From first byte to last.", ["route"], buckets=_SECONDS, registry=registry
        )
        self.in_flight = Gauge("relgrade_requests_in_flight", "Requests being answered.", registry=registry)
        self.documents = Counter(
            "relgrade_documents", "Documents: kept, dropped or unjudged.", ["model", "outcome"], registry=registry
        )
        self.sentences = Counter(
            "relgrade_sentences",
            "Sentences that were judged for evidence or compression.",
            ["model"],
            registry=registry,
        )
        self.probability = Histogram(
            "relgrade_probability", "Calibrated P(relevant).", ["model"], buckets=_SHARES, registry=registry
        )
        self.tokens = Counter(
            "relgrade_tokens", "Tokens of documents and sentences that were read.", ["model"], registry=registry
        )
        self.queue_seconds = Histogram(
            "relgrade_queue_seconds", "Until the first pair of a request began.", buckets=_SECONDS, registry=registry
        )
        self.queue_documents = Gauge("relgrade_queue_documents", "Documents that wait or run.", registry=registry)
        self.batch_fill = Histogram(
            "relgrade_batch_fill", "Tokens of a micro-batch over its budget.", buckets=_SHARES, registry=registry
        )
        self.batch_requests = Histogram(
            "relgrade_batch_requests", "Requests in a micro-batch.", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self.batch_seconds = Histogram(
            "relgrade_batch_seconds", "Run time of a micro-batch.", buckets=_SECONDS, registry=registry
        )
        self.errors = Counter("relgrade_errors", "Requests without grades, by kind.", ["kind"], registry=registry)
        self.on_error = Counter(
            "relgrade_on_error", "Answers with documents nobody judged.", ["policy", "reason"], registry=registry
        )
        self.cache = Counter("relgrade_cache_lookups", "Pairs looked up: hit or miss.", ["outcome"], registry=registry)
        self.loads = Counter(
            "relgrade_bundle_loads", "Bundles loaded or refused.", ["model", "outcome"], registry=registry
        )
        self.load_seconds = Gauge("relgrade_bundle_load_seconds", "Of the last load.", ["model"], registry=registry)
        self.bundle = Gauge("relgrade_bundle_info", "1 for what serves now.", ["model", "hash"], registry=registry)

    def watch_documents(self, cache: DocumentCache) -> None:
        """Tell of a document cache from now on, at each scrape; the hit ratio is memory and disk over all three."""
        self.registry.register(_DocumentCacheCollector(cache))

    def of_batch(self, report: BatchReport) -> None:
        """A micro-batch ended."""
        self.batch_fill.observe(report.fill)
        self.batch_requests.observe(report.n_jobs)
        self.batch_seconds.observe(report.seconds)

    def of_answer(self, answer: Answer, *, has_cache: bool) -> None:
        """A request was answered."""
        name = answer.ask.model.name
        kept = dropped = unjudged = 0
        observe = self.probability.labels(name).observe
        for each in answer.lists:
            for grade in each.grades:
                if grade is None:
                    unjudged += 1
                    continue
                observe(grade.probability)
                kept, dropped = kept + grade.relevant, dropped + (not grade.relevant)
        for outcome, n in (("kept", kept), ("dropped", dropped), ("unjudged", unjudged)):
            self.documents.labels(name, outcome).inc(n)
        self.tokens.labels(name).inc(answer.tokens)
        self.sentences.labels(name).inc(answer.n_sentences)
        self.queue_seconds.observe(answer.timings.queue_ms / 1e3)
        if has_cache:
            self.cache.labels("hit").inc(answer.timings.n_cached)
            n_pairs = answer.ask.n_documents + answer.n_sentences
            self.cache.labels("miss").inc(n_pairs - answer.timings.n_cached)
        if answer.failing is not None:
            self.on_error.labels(answer.failing.policy, answer.failing.reason).inc()

    def of_models(self, models: tuple[HostedModel, ...]) -> None:
        """What serves from now on."""
        self.bundle.clear()
        for model in models:
            self.bundle.labels(model.name, model.bundle.hash).set(1)

    def of_reload(self, outcome: Reload) -> None:
        """A bundle was loaded or refused."""
        self.loads.labels(outcome.name, "loaded" if outcome.is_loaded else "refused").inc()
        self.load_seconds.labels(outcome.name).set(outcome.seconds)

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)


class _DocumentCacheCollector:
    """What a document cache has counted, in Prometheus' words."""

    def __init__(self, cache: DocumentCache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """The families; called at each scrape."""
        stats = self._cache.stats
        lookups = CounterMetricFamily(
            "relgrade_document_cache_lookups", "Documents looked up: memory, disk or miss.", labels=["outcome"]
        )
        for outcome, n in (("memory", stats.n_memory_hits), ("disk", stats.n_disk_hits), ("miss", stats.n_misses)):
            lookups.add_metric([outcome], n)
        yield lookups
        yield CounterMetricFamily(
            "relgrade_document_cache_damaged", "Records whose bytes had changed.", value=stats.n_damaged
        )
        yield GaugeMetricFamily("relgrade_document_cache_bytes", "Of records in memory.", value=stats.n_bytes)
        yield GaugeMetricFamily("relgrade_document_cache_documents", "In memory.", value=stats.n_documents)
        ratio = GaugeMetricFamily("relgrade_document_cache_hit_ratio", "Since the start.", value=stats.hit_ratio or 0.0)
        yield ratio
