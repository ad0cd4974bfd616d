"""The tests of topics, client, migrations and signals once more, in containers: the fixtures here are others."""

from __future__ import annotations

from tests.integration.containers.images import leave_out_module_without_engine

leave_out_module_without_engine()

from tests.integration.kafka.test_admin import *  # noqa: E402, F403
from tests.integration.tables.test_client import *  # noqa: E402, F403
from tests.integration.tables.test_migrations import *  # noqa: E402, F403
from tests.integration.tables.test_signals import *  # noqa: E402, F403
