"""Running chapters: parameters, profiles, digests, records.

Import from the modules: notebooks need only `emseg.runs.session`, and what a notebook imports decides when it is stale.
"""
