"""What a Grafana dashboard is made of, as data: panels, their queries, and the queries that many panels have.

Every query is run against a real Prometheus by tests/observability, and must give data. `$__rate_interval` is
Grafana's; counters that replicas count each for themselves are summed, what every replica tells alike is the highest.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Query:
    """PromQL, and what a line is called; `exemplars`: points that lead to the one action behind them."""

    expr: str
    legend: str = ""
    exemplars: bool = False


@dataclass(frozen=True)
class Panel:
    """One picture. `wide` of 24 columns; `kind` as Grafana calls it; `stacked` areas add up.

    `actions`: the query of the gateway's list of actions that a click on a line leads to.
    """

    title: str
    about: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    wide: int = 8
    stacked: bool = False
    actions: str | None = None


@dataclass(frozen=True)
class Dashboard:
    """A page; `name` is its file's."""

    name: str
    title: str
    about: str
    panels: tuple[Panel, ...]


def quantiles(metric: str, where: str = "", exemplars: bool = False) -> tuple[Query, ...]:
    """The median and the slowest hundredth of a histogram."""
    return tuple(
        Query(
            f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket{where}[$__rate_interval])))",
            f"p{round(q * 100)}",
            exemplars,
        )
        for q in (0.5, 0.99)
    )


def rate(metric: str, by: str, where: str = "", legend: str = "") -> tuple[Query, ...]:
    """How often something is counted each second, by labels."""
    names = " ".join(f"{{{{{name.strip()}}}}}" for name in by.split(","))
    return (Query(f"sum by ({by}) (rate({metric}{where}[$__rate_interval]))", legend or names),)


def increase(metric: str, legend: str, where: str = "") -> Query:
    """How much was counted in the time shown."""
    return Query(f"sum(increase({metric}{where}[$__range]))", legend)
