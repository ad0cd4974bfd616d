"""The tests of the views once more, in containers: the fixtures here are others."""

from __future__ import annotations

from tests.integration.containers.images import leave_out_module_without_engine

leave_out_module_without_engine()

from tests.integration.tables.test_views import *  # noqa: E402, F403
