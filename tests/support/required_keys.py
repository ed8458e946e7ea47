"""The variables of the keys that have no default, with values of a made-up installation: for tests without servers."""

from common.config.section import Section
from desk.config import DeskConfig
from jobs import JOBS, config_class
from local.http_services import job_settings
from reports.config import ReportsConfig, RequestsReportsConfig
from services.config import ServicesConfig

_DATABASES = {
    "AGGREGATES__CASSANDRA__CONTACT_POINTS": "[cassandra-1, cassandra-2]",
    "AGGREGATES__REDIS__HOST": "redis",
}
_SERVERS = {
    **_DATABASES,
    "AGGREGATES__KAFKA__BOOTSTRAP_SERVERS": "kafka-1:9092",
    "AGGREGATES__KAFKA__ENV": "dev",
}
_REPORTS = {
    **_DATABASES,
    "AGGREGATES__CONTENT_BASE_URL": "http://search:9000",
    "AGGREGATES__HIERARCHY_KEYSPACE": "dev_hierarchy_store",
}

REQUIRED: dict[type[Section], dict[str, str]] = {
    **{config_class(name): _SERVERS | job_settings("http://sunbird:9000")[name] for name in JOBS},
    ServicesConfig: {
        **_SERVERS,
        "AGGREGATES__TOKENS__PUBLIC_KEYS_FOLDER": "/token-keys",
        "AGGREGATES__TOKENS__ISSUER": "https://sso.test/auth/realms/sunbird",
        "AGGREGATES__GROUP_SERVICE__BASE_URL": "http://groups:9000",
    },
    DeskConfig: {
        **_SERVERS,
        "AGGREGATES__LEARNER_BASE_URL": "http://learner:9000",
        "AGGREGATES__CONTENT_BASE_URL": "http://content:9000",
        "AGGREGATES__SEARCH_API": "http://search:9000/v3/search",
    },
    ReportsConfig: _REPORTS,
    RequestsReportsConfig: {
        **_REPORTS,
        "AGGREGATES__POSTGRES__HOST": "postgres",
        "AGGREGATES__POSTGRES__DATABASE": "analytics",
        "AGGREGATES__POSTGRES__TABLE": "dev_job_request",
        "AGGREGATES__POSTGRES__USERNAME": "reports",
    },
}
"""By the class of the configuration."""
