"""What the notebook `attribution_fields` needs besides the library."""
