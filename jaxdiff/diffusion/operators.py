"""provisional"""
from typing import Callable, NamedTuple
import jax, numpy as np, jax.numpy as jnp
class Operator(NamedTuple):
    apply: Callable
    pinv: Callable
def mask(known):
    return Operator(lambda x: known*x, lambda y: known*y)
def identity():
    return Operator(lambda x: x, lambda y: y)
def grey(channels):
    return Operator(lambda x: jnp.mean(x,-1,keepdims=True), lambda y: jnp.repeat(y,channels,-1))
def separable(rows, columns):
    p=[jnp.asarray(np.linalg.pinv(m),jnp.float32) for m in (rows,columns)]
    m=[jnp.asarray(m,jnp.float32) for m in (rows,columns)]
    f=lambda r,c: (lambda x: jnp.einsum('ih,bhwc,jw->bijc',r,x,c))
    return Operator(f(*m),f(*p))
def _axis(n,factor):
    return np.asarray(jax.image.resize(jnp.eye(n),(n//factor,n),'cubic',antialias=True))
def downsample(shape,factor):
    return separable(_axis(shape[0],factor),_axis(shape[1],factor))
def blur(shape,sigma):
    def m(n):
        r=int(4*sigma+1); k=np.exp(-np.arange(-r,r+1)**2/2/sigma**2); k/=k.sum()
        return np.stack([np.convolve(np.pad(e,r,'reflect' if r<n else 'edge'),k,'valid') for e in np.eye(n)],1)
    return separable(m(shape[0]),m(shape[1]))
