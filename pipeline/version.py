"""The version, alone in its file: whatever imports it imports nothing else."""

VERSION = "0.1.0"
