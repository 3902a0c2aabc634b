import jax, jax.numpy as jnp, numpy as np, importlib.util
from rdd_jax import objectives, risk
def test_d(x64):
    import sys; sys.path.insert(0, "/work/main/tests"); import test_objectives as T
    s, b = T.problem()
    for reg, lr in [(1e-6,1e-6),(1e-2,1e-2),(1e-1,1e-1),(1e-1,1.)]:
        o = objectives.kip_solved(T.KERNEL, reg, lr)
        g = jax.grad(lambda x: risk.mean(o(T.KEY, s._replace(images=x), b)))(s.images)
        mu = lr*np.trace(T.gram(s.images,s.images))/4
        d = np.random.default_rng(1).standard_normal(s.images.shape)
        up, down = (T.best_penalised(s.images+h*d, b, mu)[2] for h in (1e-5,-1e-5))
        print(reg, lr, np.sum(g*d), (up-down)/2e-5, risk.mean(o(T.KEY,s,b)), T.best_penalised(s.images,b,mu)[2])
