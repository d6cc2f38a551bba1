"""The first model: how good are its digits, and how many bits does a held-out digit cost it?"""


def measure(lab):
    """Trains a model and a judge; samples against held-out digits, and the likelihood of those."""
    judge = lab.judge('digits_judge', 'digits_judge')
    run = lab.train('digits', 'digits')
    seen = lab.evaluate(run, features=judge, num=1000, steps=50, guidance=1.0)
    found = {name.partition('[')[0]: figure['value'] for name, figure in seen.items()}
    bits = lab.evaluate(run, metrics=['bound', 'flow'], num=360, batch_size=90)
    return found | {name: figure['value'] for name, figure in bits.items()}
