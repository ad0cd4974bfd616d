"""Learning the loyalty risk from a deployment's own history: pure, numbers in and numbers out."""
