"""Why an import cannot start or go on, one tree.

ImporterError
├── MappingError      the mapping is wrong, or does not fit the file
└── SourceFileError   the file cannot be read
"""

from __future__ import annotations


class ImporterError(Exception):
    """Base of everything that services.importer raises on purpose; the message names the remedy."""


class MappingError(ImporterError):
    """The mapping file is at fault; the message names line and field."""


class SourceFileError(ImporterError):
    """The file to import is missing, of an unknown kind, or damaged."""
