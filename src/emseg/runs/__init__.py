"""Running chapters: parameters, profiles, digests, records.

Import from the modules: notebooks need only `emseg.runs.session`, and what a notebook imports decides when it is stale.
"""

import sys

# jsonschema, and so nbformat, would compile that module's grammar for 1.5 s, for a format that no schema here uses.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
