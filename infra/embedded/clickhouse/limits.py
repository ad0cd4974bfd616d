"""Engine settings of the two logins: what every session begins with, and the reader's caps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Names a session in `system.processes`: how the server finds and stops what runs there.
SESSION_MARK: Final = "log_comment"
# Settings of the HTTP handler, and what servers pass on but SET refuses: the engine need not hear of them.
UNHEARD_SETTINGS: Final = frozenset(
    {
        "enable_http_compression",
        "http_zlib_compression_level",
        "send_progress_in_http_headers",
        "http_headers_progress_interval_ms",
        "wait_end_of_query",
        "add_http_cors_header",
        "network_compression_method",
        "network_zstd_compression_level",
        "http_response_buffer_size",
        "http_wait_end_of_query",
        "http_write_exception_in_output_format",
        "run_query_in_background",
    }
)
_MAX_QUERY_BYTES: Final = 256 << 20
OWNER_SETTINGS: Final[dict[str, str]] = {
    # An acknowledged insert is written, and its token counts: both are off by default.
    "async_insert": "0",
    # Point lookups list tens of thousands of keys.
    "max_query_size": str(_MAX_QUERY_BYTES),
    "max_ast_elements": "10000000",
    "max_expanded_ast_elements": "10000000",
}


@dataclass(frozen=True, slots=True)
class ReaderLimits:
    """Caps on the statements of the read-only login."""

    max_seconds: int = 30
    max_memory_bytes: int = 2 << 30
    max_result_rows: int = 5_000_000
    max_result_bytes: int = 1 << 30
    max_threads: int = 1
    max_concurrent: int = 8

    def settings(self) -> dict[str, str]:
        """The same as engine settings."""
        return {
            "async_insert": "0",
            "max_query_size": str(4 << 20),
            "max_execution_time": str(self.max_seconds),
            "timeout_overflow_mode": "throw",
            "max_memory_usage": str(self.max_memory_bytes),
            "max_result_rows": str(self.max_result_rows),
            "max_result_bytes": str(self.max_result_bytes),
            "result_overflow_mode": "throw",
            "max_threads": str(self.max_threads),
            # Scoring goes first when both want the processor.
            "os_threads_nice_value_query": "10",
        }
