"""What the notebook `fanet_results` needs besides the library."""
