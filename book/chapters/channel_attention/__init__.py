"""What the notebook `channel_attention` needs besides the library."""
