"""Real engines for tests and measurements: each is started on loopback from a package, and stopped by its own id."""
