"""The wire, one JSON file per case."""
