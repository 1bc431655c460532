"""Write the page that Prometheus reads; the only module that imports prometheus_client.

The figures are read from the database whenever the page is fetched, so that all processes of an
installation report the same figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Figure:
    """One value of a metric, with its labels and the metric's help text."""

    name: str
    meaning: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


class _Figures(Collector):
    def __init__(self, figures: Iterable[Figure]) -> None:
        self._figures = list(figures)

    def collect(self) -> Iterator[Metric]:
        """Yield one metric family for each name, with all figures of that name."""
        families: dict[str, GaugeMetricFamily] = {}
        for each in self._figures:
            new = GaugeMetricFamily(each.name, each.meaning, labels=list(each.labels))
            family = families.setdefault(each.name, new)
            family.add_metric(list(each.labels.values()), each.value)
        yield from families.values()


def page(figures: Iterable[Figure]) -> bytes:
    """Return the figures in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(_Figures(figures))
    return generate_latest(registry)
