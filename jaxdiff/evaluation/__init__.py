"""How good models and methods are, measured."""
