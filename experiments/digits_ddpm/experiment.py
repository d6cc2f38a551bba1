"""The first model: how good are its digits, and how many bits does a held-out digit cost it?"""


def measure(lab):
    """Trains a model and a judge; samples against held-out digits, and the likelihood of those."""
    judge = lab.judge('digits_judge', 'digits_judge')
    run = lab.train('digits', 'digits')
    found = lab.evaluate(run, features=judge, num=1000, steps=50, guidance=1.0)
    return found | lab.evaluate(run, metrics=['bound', 'flow'], num=360, batch_size=90)
