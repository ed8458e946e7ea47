"""The configuration of the reports; what each key means is in ``config.yaml``."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from common.config.http import HttpConfig
from common.config.model import CassandraConfig, RedisConfig
from common.config.section import Section, conflict
from common.config.values import BaseUrl, Port, Positive, RedisDatabase, Secret, Text, Texts, TimeZone, Word
from reports import progress, response

StorageUrl = Annotated[str, Field(pattern=r"^(s3|az|gs)://[^/?#\s]+(/[^?#\s]*)?$")]
Identifier = Annotated[str, Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_]{0,47}$")]


def _progress_columns(columns: dict[str, str]) -> dict[str, str]:
    return _known(columns, progress.COLUMNS, progress.KNOWN_COLUMNS)


def _response_columns(columns: dict[str, str]) -> dict[str, str]:
    return _known(columns, response.COLUMNS, response.KNOWN_COLUMNS)


def _known(columns: dict[str, str], order: dict[str, str], known: frozenset[str]) -> dict[str, str]:
    if unknown := columns.keys() - known:
        allowed = ", ".join([*order, *sorted(known - order.keys())])
        raise ValueError(f"has the unknown column {', '.join(sorted(unknown))}; allowed: {allowed}")
    if len(set(columns.values())) < len(columns):
        raise ValueError("must not have a title twice")
    return columns


class ReportsRedisConfig(RedisConfig):
    """The server, with the database that has the learners."""

    user_database: RedisDatabase = 12


class PostgresConfig(Section):
    """The database with the table of job requests. Only the commands ``requests`` and ``status`` connect."""

    host: Word | None = None
    port: Port = 5432
    database: Text | None = None
    table: Identifier | None = None
    username: Text | None = None
    password: Secret = None
    password_file: Text | None = None
    ssl_mode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    ssl_ca_file: Text | None = None
    connect_timeout_seconds: Positive = 10
    patience_seconds: Positive = 60
    lease_seconds: Annotated[int, Field(ge=3)] = 60

    @model_validator(mode="after")
    def _authority_to_verify_with(self) -> Self:
        if self.ssl_mode.startswith("verify") and self.ssl_ca_file is None:
            raise conflict(f"ssl_mode: {self.ssl_mode} needs ssl_ca_file", "ssl_mode", "ssl_ca_file")
        return self


class CsvConfig(Section):
    """How cells are written."""

    escape_formulas: bool = True
    byte_order_mark: bool = False


class ObjectStorageConfig(Section):
    """Where reports are uploaded to; without ``url`` they stay in ``output_folder``."""

    url: StorageUrl | None = None
    endpoint: BaseUrl | None = None
    region: Text | None = None
    access_key: Text | None = None
    secret_key: Secret = None
    secret_key_file: Text | None = None
    service_account_file: Text | None = None
    download_urls: Literal["url", "signed_url", "path"] = "url"
    signed_url_seconds: Annotated[int, Field(gt=0, le=604_800)] = 604_800
    timeout_seconds: Positive = 120


class ArchivedAttemptsConfig(Section):
    """Where Sunbird's archival job has put attempts; the keys are those of :class:`ObjectStorageConfig`."""

    url: StorageUrl | None = None


class EncryptionConfig(Section):
    """What the services encrypt ``encryption_key`` with."""

    sunbird_encryption_key: Secret = None
    sunbird_encryption_key_file: Text | None = None
    aes_key: Annotated[str, Field(pattern=r"^[ -~]{16}$")] = "ThisAsISerceKtey"


class UserOrgConfig(Section):
    """The user and org service, which knows the security policy of each organisation."""

    base_url: BaseUrl | None = None


class RequestsConfig(Section):
    """Which job requests are run, and how much of them in one run."""

    max_iterations: Positive = 3
    requests_per_round: Positive = 50
    batch_number: int | None = None
    batches_limit_per_request: Positive = 100
    batches_limit_per_channel: Positive = 100
    file_size_limit_per_channel_in_bytes: Positive = 1024 * 1024 * 1024


class ReportsConfig(Section):
    """The progress and the response exhaust of batches, as CSV in a zip."""

    cassandra: CassandraConfig
    redis: ReportsRedisConfig
    http: HttpConfig = HttpConfig()
    postgres: PostgresConfig = PostgresConfig()
    requests: RequestsConfig = RequestsConfig()
    csv: CsvConfig = CsvConfig()
    object_storage: ObjectStorageConfig = ObjectStorageConfig()
    archived_attempts: ArchivedAttemptsConfig = ArchivedAttemptsConfig()
    encryption: EncryptionConfig = EncryptionConfig()
    user_org: UserOrgConfig = UserOrgConfig()
    content_base_url: BaseUrl
    output_folder: Text | None = None
    hierarchy_keyspace: Identifier
    enrolments_table: Literal["user_enrolments", "report_user_enrolments"] = "user_enrolments"
    scan_ranges: Annotated[int, Field(ge=1, le=65536)] = 64
    page_size: Positive = 250
    reports_per_scan: Positive = 200
    assessment_content_types: Texts = ("SelfAssess",)
    assessment_object_types: Texts = ("QuestionSet",)
    assessment_primary_categories: Texts = ("Practice Question Set",)
    time_zone: TimeZone = "Asia/Kolkata"
    progress_columns: Annotated[dict[str, Text], Field(min_length=1), AfterValidator(_progress_columns)] = (
        progress.COLUMNS
    )
    response_columns: Annotated[dict[str, Text], Field(min_length=1), AfterValidator(_response_columns)] = (
        response.COLUMNS
    )


class RequestsPostgresConfig(PostgresConfig):
    """The database, with what is required to connect."""

    host: Word
    database: Text
    table: Identifier
    username: Text


class RequestsReportsConfig(ReportsConfig):
    """The reports that job requests in PostgreSQL ask for."""

    postgres: RequestsPostgresConfig
