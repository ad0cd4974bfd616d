"""Commands that learn from the events of the deployment: risk, fit, models."""
