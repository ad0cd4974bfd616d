"""The contract: what an event is, how it travels, where it is kept. Imports nothing else of the project."""
