"""Real users of the library: each test starts the real thing on loopback and stops it again."""
