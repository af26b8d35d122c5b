"""Files of sections and labels that other programs read and write."""
