"""The experiments' configurations, installed as `jaxdiff.configs`."""
