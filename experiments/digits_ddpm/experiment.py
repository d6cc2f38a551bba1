"""The first model: how good are its digits, and how many bits does a held-out digit cost it?"""

HOW = {'steps': 50, 'guidance': 1.0}


def measure(lab):
    """Trains a model and a judge; samples against held-out digits, and the likelihood of those."""
    judge = lab.judge('digits_judge', 'digits_judge')
    run = lab.train('digits', 'digits')
    lab.show(picture(lab.sample(run, 'digits', num=100, **HOW)), 'digits')
    found = lab.evaluate(run, features=judge, num=1000, **HOW)
    return found | lab.evaluate(run, metrics=['bound', 'flow'], num=360, batch_size=90)


def picture(drawn):
    """A hundred samples, a column a class."""
    import matplotlib.figure

    from jaxdiff.viz import grid

    figure = matplotlib.figure.Figure((5, 5), layout='constrained')
    axes = figure.subplots()
    axes.imshow(grid.tile(drawn, 10, 4))
    axes.axis('off')
    return figure
