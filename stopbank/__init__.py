"""Command line, configuration and supervisor. May import every other folder, lazily per command."""
