"""Programs that the type checkers read and nobody runs: they prove what types a user sees."""
