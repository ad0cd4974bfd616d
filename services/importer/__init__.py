"""History from files: a mapping says which column feeds which field; every row becomes an event or a refusal."""
