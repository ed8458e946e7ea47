"""The configuration of the desk. ``config.yaml`` says what each key means."""

from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from common.config.http import HttpConfig
from common.config.model import CassandraConfig, JobRedisConfig, KafkaConfig, TopicsConfig
from common.config.section import Section, section_of_texts
from common.config.values import BaseUrl, Positive, Texts, TimeZone, Word
from desk.explanation.settings import JobSettings, job_settings
from desk.explanation.wording import Wording
from desk.sentences import LANGUAGES
from desk.server.config import ServerConfig
from jobs import JOBS, config_class


def _known_language(language: str) -> str:
    if language not in LANGUAGES:
        raise ValueError(f"must be one of {', '.join(LANGUAGES)}")
    return language


if TYPE_CHECKING:
    # A type checker knows no class that is made at run time.
    GroupIdsConfig = Section
else:
    GroupIdsConfig = section_of_texts(
        __name__, "GroupIdsConfig", "``kafka.group_id`` of each job. None: ``<env>-<the job's own group>``.", JOBS, Word
    )


class DeskKafkaConfig(KafkaConfig):
    """Kafka, the jobs' groups, and how far back the desk searches the topics."""

    topics: TopicsConfig = TopicsConfig()
    group_ids: GroupIdsConfig = GroupIdsConfig()
    search_messages: Positive = 20_000
    search_seconds: Positive = 10

    def group_id(self, job: str) -> str:
        """The consumer group of a job in :data:`jobs.JOBS`, as :attr:`JobConfig.group_id` says it."""
        configured: str | None = getattr(self.group_ids, job)
        return configured or f"{self.env}-{config_class(job).consumer_group}"


class DeskHttpConfig(HttpConfig):
    """Calls to Sunbird's APIs. Somebody is waiting for the answer, so a call ends sooner than in a job."""

    request_timeout_ms: Positive = 2_000
    call_timeout_ms: Positive = 4_000


class DeskConfig(Section):
    """The support desk: explanations for learners, and the server with its pages."""

    kafka: DeskKafkaConfig
    cassandra: CassandraConfig
    redis: JobRedisConfig
    http: DeskHttpConfig = DeskHttpConfig()
    learner_base_url: BaseUrl
    content_base_url: BaseUrl
    search_api: BaseUrl
    flink_url: BaseUrl | None = None
    module_aggs: bool = True
    supported_content_types: Texts = ("SelfAssess",)
    enable_suppress_exception: bool = True
    language: Annotated[str, AfterValidator(_known_language)] = "en"
    time_zone: TimeZone = "UTC"
    show_names: bool = False
    scan_ranges: Annotated[int, Field(ge=1, le=65536)] = 64
    page_size: Positive = 500
    server: ServerConfig = ServerConfig()


def wording_of(config: DeskConfig, language: str | None = None) -> Wording:
    """How things are said: in the configured language unless another one is given."""
    return Wording(LANGUAGES[language or config.language], ZoneInfo(config.time_zone), config.show_names)


def settings_of(config: DeskConfig) -> JobSettings:
    """What the jobs' rules need to know."""
    return job_settings(config.supported_content_types, enable_suppress_exception=config.enable_suppress_exception)
