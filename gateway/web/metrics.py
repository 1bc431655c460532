"""The page that Prometheus reads: figures of the moment, as the daemon gathers them for each visit.

Nothing is counted between visits, so that every process of an installation tells the same of what
lies in the database.
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
    """One value: its name, what it means, and what it is about."""

    name: str
    meaning: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


class _Figures(Collector):
    def __init__(self, figures: Iterable[Figure]) -> None:
        self._figures = list(figures)

    def collect(self) -> Iterator[Metric]:
        """The figures, those of one name together."""
        families: dict[str, GaugeMetricFamily] = {}
        for each in self._figures:
            family = families.setdefault(
                each.name, GaugeMetricFamily(each.name, each.meaning, labels=list(each.labels))
            )
            family.add_metric(list(each.labels.values()), each.value)
        yield from families.values()


def page(figures: Iterable[Figure]) -> bytes:
    """The text exposition of these figures."""
    collected = CollectorRegistry()
    collected.register(_Figures(figures))
    return generate_latest(collected)
