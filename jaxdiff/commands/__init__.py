"""What each command of `jaxdiff` does: `prepare` checks all and writes nothing, `run` works."""
