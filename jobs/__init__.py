"""Thin entry points for a scheduler: `python -m jobs.run CONF.toml` and its siblings."""
