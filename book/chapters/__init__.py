"""The book's chapters: what a notebook needs and no stranger would call."""
