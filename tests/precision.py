"""What precision a program asks of its matrix products."""

import jax.extend


def products(jaxpr):
    """The precision of every matrix product in a program, those inside loops too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == 'dot_general':
            yield equation.params['precision']
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from products(inner)
