"""The tests of stored states and of the views for people once more, in containers: the fixtures here are others."""

from __future__ import annotations

from tests.integration.containers.images import leave_out_module_without_engine

leave_out_module_without_engine()

from tests.integration.tables.test_states import *  # noqa: E402, F403
from tests.integration.tables.test_views_for_people import *  # noqa: E402, F403
