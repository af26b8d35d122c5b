"""From a wafer image to the microscope's stage: sections found, fitted, ordered, placed, reviewed and written."""
