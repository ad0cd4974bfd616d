"""One module for each format: a document to bytes. Pure: the same document gives the same bytes."""
