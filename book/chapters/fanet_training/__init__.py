"""What the notebook `fanet_training` needs besides the library."""
