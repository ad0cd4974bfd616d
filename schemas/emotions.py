"""The published emotion vocabulary: twenty emotions in four clusters, from value-destroying to advocacy.

Source: the hierarchy of emotional value of Shaw, "The DNA of Customer Experience" (2007), which groups the
emotions found to destroy or drive value in business relationships.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Cluster(StrEnum):
    """Clusters in ascending value; each emotion belongs to exactly one."""

    DESTROYING = "destroying"
    ATTENTION = "attention"
    RECOMMENDATION = "recommendation"
    ADVOCACY = "advocacy"


CLUSTERS: Final[dict[Cluster, tuple[str, ...]]] = {
    Cluster.DESTROYING: (
        "irritated",
        "hurried",
        "neglected",
        "unhappy",
        "unsatisfied",
        "stressed",
        "disappointed",
        "frustrated",
    ),
    Cluster.ATTENTION: ("interested", "energetic", "stimulated", "exploratory", "indulgent"),
    Cluster.RECOMMENDATION: ("trusting", "valued", "cared_for", "focused", "safe"),
    Cluster.ADVOCACY: ("happy", "pleased"),
}

EMOTIONS: Final[tuple[str, ...]] = tuple(name for names in CLUSTERS.values() for name in names)

CLUSTER_OF: Final[dict[str, Cluster]] = {name: cluster for cluster, names in CLUSTERS.items() for name in names}
