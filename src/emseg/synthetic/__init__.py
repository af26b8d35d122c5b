"""The two generators: tissue, as an electron microscope sees it, and wafers with sections."""
