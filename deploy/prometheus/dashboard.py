"""dashboard.json, a dashboard for operators (Grafana 10 or newer)."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, TooltipDisplayMode

_SOURCE = models.DataSourceRef(type_val="prometheus", uid="$datasource")
_JOB = 'job_name=~"$job"'
_STAGE = f'operator_name="apply", {_JOB}'
_METRIC = "flink_taskmanager_job_task_operator_"


@dataclass(frozen=True, slots=True)
class Graph:
    """A panel: one line per series of ``expression``, named by the ``legend``."""

    title: str
    expression: str
    legend: str = "{{job_name}}"
    unit: str = "short"
    description: str = ""


def _rate(metric: str, *labels: str) -> str:
    return f"sum by ({', '.join(('job_name', *labels))}) (rate({_METRIC}{metric}{{{_STAGE}}}[$__rate_interval]))"


def _count(metric: str, *labels: str) -> str:
    """How often in the last 5 minutes. A series begins with its first event, which rate() and increase() do not see."""
    series = f"{_METRIC}{metric}{{{_STAGE}}}"
    return (
        f"sum by ({', '.join(('job_name', *labels))}) (({series} unless {series} offset 5m) or increase({series}[5m]))"
    )


def _share_of_time(metric: str) -> str:
    """0 to 1, of the busiest subtask of each task. Of the names of chained operators, the first one is kept."""
    share = f"flink_taskmanager_job_task_{metric}TimeMsPerSecond{{{_JOB}}} / 1000"
    return f'max by (job_name, task) (label_replace({share}, "task", "$1", "task_name", "(.*?)( -> .*)?"))'


def _average(metric: str) -> str:
    """Only where something was counted: sum and count are not always scraped from the same moment, and x/0 is +Inf."""
    return f"{_rate(f'{metric}_sum')} / ({_rate(f'{metric}_count')} > 0)"


ROWS: dict[str, Sequence[Graph]] = {
    "Does it keep up?": (
        Graph(
            "Events that wait in Kafka",
            f"sum by (job_name) ({_METRIC}pendingRecords{{{_JOB}}})",
            description="Not read by the job yet. It should go back to 0.",
        ),
        Graph(
            "Age of the last checkpoint",
            f"time() - (flink_jobmanager_job_lastCheckpointCompletedTimestamp{{{_JOB}}} > 0) / 1000",
            unit="s",
            description="Normally a few seconds. It grows while a batch is retried.",
        ),
        Graph(
            "Restarts",
            f"flink_jobmanager_job_numRestarts{{{_JOB}}}",
            description="Since the JobManager started. The exception is in Flink's web UI.",
        ),
        Graph(
            "Running for",
            f"flink_jobmanager_job_runningTime{{{_JOB}}} / 1000",
            unit="s",
            description="0 while the job is restarting.",
        ),
    ),
    "What becomes of events": (
        Graph("Events received", _rate("numRecordsIn"), unit="eps"),
        Graph("Events applied", _rate("effect_events_applied", "effect"), "{{job_name}} {{effect}}", "eps"),
        Graph(
            "Events on the failed topic",
            _count("reason_failed", "reason"),
            "{{job_name}} {{reason}}",
            description="In 5 minutes, by reason. The messages on the topic have the details.",
        ),
        Graph(
            "Events skipped",
            _count("reason_skipped", "reason"),
            "{{job_name}} {{reason}}",
            description="In 5 minutes, by reason.",
        ),
        Graph("Messages sent", _rate("topic_messages_out", "topic"), "{{job_name}} {{topic}}", "eps"),
    ),
    "Batches and servers": (
        Graph("Time of a batch", _average("batch_latency_ms"), unit="ms"),
        Graph("Events in a batch", _average("batch_size")),
        Graph(
            "Batches applied again",
            _count("batches_retried"),
            description="In 5 minutes. Flink gets this when the bundle ends, so after the server answers again.",
        ),
        Graph("Rows read", _rate("rows_read"), unit="rps"),
        Graph("Rows written", _rate("rows_written"), unit="wps"),
        Graph(
            "Hit ratio of the caches",
            f"{_count('cache_cache_hits', 'cache')} / "
            f"({_count('cache_cache_hits', 'cache')} + {_count('cache_cache_misses', 'cache')})",
            "{{job_name}} {{cache}}",
            "percentunit",
            "Of 5 minutes.",
        ),
        Graph("Calls of APIs", _count("api_api_calls", "api"), "{{job_name}} {{api}}", description="In 5 minutes."),
        Graph(
            "Failed calls of APIs",
            _count("api_api_failures", "api"),
            "{{job_name}} {{api}}",
            description="In 5 minutes.",
        ),
    ),
    "Flink": (
        Graph(
            "Busy", _share_of_time("busy"), "{{job_name}} {{task}}", "percentunit", "The busiest subtask of each task."
        ),
        Graph(
            "Backpressured",
            _share_of_time("backPressured"),
            "{{job_name}} {{task}}",
            "percentunit",
            "The source is backpressured while the stage is full: under load, or while a server is down.",
        ),
        Graph("Heap of the TaskManagers", "flink_taskmanager_Status_JVM_Memory_Heap_Used", "{{tm_id}}", "bytes"),
        Graph(
            "Metaspace of the TaskManagers", "flink_taskmanager_Status_JVM_Memory_Metaspace_Used", "{{tm_id}}", "bytes"
        ),
    ),
}


def _panel(graph: Graph) -> timeseries.Panel:
    return (
        timeseries.Panel()
        .title(graph.title)
        .description(graph.description)
        .datasource(_SOURCE)
        .unit(graph.unit)
        .min(0)
        .height(7)
        .span(6)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .with_target(Dataquery().expr(graph.expression).legend_format(graph.legend).ref_id("A"))
    )


def build() -> str:
    """The dashboard as JSON."""
    dashboard = (
        Dashboard("Learners' aggregates")
        .uid("learner-aggregates")
        .tags(["flink", "sunbird"])
        .timezone("browser")
        .refresh("30s")
        .time("now-3h", "now")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(
            QueryVariable("job")
            .label("Job")
            .datasource(_SOURCE)
            .query('label_values(flink_taskmanager_job_task_operator_numRecordsIn{operator_name="apply"}, job_name)')
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".+")
        )
    )
    for title, graphs in ROWS.items():
        dashboard.with_row(Row(title))
        for graph in graphs:
            dashboard.with_panel(_panel(graph))
    return JSONEncoder(sort_keys=True, indent=2).encode(dashboard.build()) + "\n"
