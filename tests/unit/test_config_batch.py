"""The bounds of a batch and of the buffer in front of it belong together."""

import pytest
from pydantic import ValidationError

from common.config.model import BatchConfig


def test_a_batch_of_more_bytes_than_the_buffer_holds_is_refused() -> None:
    assert BatchConfig(max_batch_size_in_bytes=1_000, max_buffered_in_bytes=1_000)
    with pytest.raises(ValidationError, match="max_batch_size_in_bytes must not be greater than"):
        BatchConfig(max_batch_size_in_bytes=1_001, max_buffered_in_bytes=1_000)
