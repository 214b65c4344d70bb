"""HTTP for operators: health now, configuration and console to come."""
