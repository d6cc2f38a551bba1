"""The first model: how good are its digits, and how many bits does a held-out digit cost it?"""

SMOKE = {
    'net.channels': 8,
    'classifier.channels': 8,
    'train.steps': 4,
    'train.batch_size': 32,
    'train.checkpoint_every': 4,
    'train.sample_every': 4,
    'sample.steps': 2,
    'sample.num': 10,
}
NEAR = {'loss.distribution': 'log_normal', 'loss.time_mean': -4.0, 'loss.time_std': 1.0}


def measure(lab):
    """Trains a model and a judge; samples against held-out digits, and the likelihood of those."""
    judge = lab.train(
        'judge',
        'digits',
        model='classifier',
        train__steps=600,
        optimizer__decay='cosine',
        sample__batch_size=100,
        **NEAR,
    )
    run = lab.train('digits', 'digits')
    seen = lab.evaluate(run, features=judge, num=1000, steps=50, guidance=1.0)
    found = {name.partition('[')[0]: figure['value'] for name, figure in seen.items()}
    bits = lab.evaluate(run, metrics=['bound', 'flow'], num=360, batch_size=90)
    return found | {name: figure['value'] for name, figure in bits.items()}
