"""Registries over HTTP: the OCI distribution protocol, read-only, bounded, and careful with credentials."""
