"""What an operator may set, in the form that the rules need."""

from dataclasses import dataclass
from datetime import UTC, tzinfo


@dataclass(frozen=True, slots=True)
class Settings:
    """Topic and addresses that a message needs, and the switches of the decision.

    ``cert_domain_url``, ``cloud_storage_base_url`` and ``cloud_storage_cname_url`` have no slash at the end. ``zone``
    is the time zone of every date in a message.
    """

    topic: str
    cert_domain_url: str
    cloud_storage_base_url: str
    content_cloud_storage_container: str
    cloud_storage_cname_url: str | None = None
    supported_content_types: frozenset[str] = frozenset({"SelfAssess"})
    enable_suppress_exception: bool = True
    zone: tzinfo = UTC

    @property
    def cloud_base_path(self) -> str:
        """The replacement of ``CLOUD_BASE_PATH`` in the URL of a template."""
        base = (self.cloud_storage_cname_url or "").strip() or self.cloud_storage_base_url
        return f"{base}/{self.content_cloud_storage_container}"
