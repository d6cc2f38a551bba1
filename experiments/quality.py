"""How a classifier trained on the real images judges samples.

    python experiments/quality.py digits a.npz b.npz        # files that `jaxdiff sample --out` wrote

The classifier is an SVM with an RBF kernel on the pixels in [0, 1], its decision values calibrated
to probabilities by five-fold cross-validation (Platt), trained on the real training split (at most
10,000 images) and shown on the real test split first. For each file: the share of samples that it
calls with probability above 0.9, the share whose class it calls as asked for, and the least and
the largest class's share.
"""

import argparse

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.svm import SVC

from jaxdiff import data

MODEL = {'digits': {'C': 10, 'gamma': 0.256}, 'fashion_mnist': {'C': 10, 'gamma': 0.01}}


def main() -> None:
    """Prints a line for the real test images and one for each file."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('dataset', choices=sorted(MODEL))
    parser.add_argument('files', nargs='*')
    args = parser.parse_args()
    classifier = CalibratedClassifierCV(SVC(**MODEL[args.dataset]), ensemble=False)
    classifier.fit(*real(args.dataset, 'train'))
    print(f'SVC({MODEL[args.dataset]}), {args.dataset}')
    report('real test images', classifier, *real(args.dataset, 'test'))
    for file in args.files:
        with np.load(file) as found:
            report(file, classifier, flat(found['samples']), found['labels'])


def real(name: str, split: str, most: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [n, d] in [0, 1] and labels [n] of a data set's first images."""
    source = data.load(name, split=split).source
    elements = [source[i] for i in range(min(most, len(source)))]
    return flat(np.stack([e['image'] for e in elements])), np.array([e['label'] for e in elements])


def flat(images: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, c] as [n, d] in [0, 1]."""
    return images.reshape(len(images), -1) / 255


def report(
    title: str, classifier: CalibratedClassifierCV, x: np.ndarray, labels: np.ndarray
) -> None:
    """One line of shares."""
    probability = classifier.predict_proba(x)
    called = probability.argmax(1)
    shares = np.bincount(called, minlength=probability.shape[1]) / len(x)
    print(
        f'{title}: n={len(x)}, above 0.9: {(probability.max(1) > 0.9).mean():.3f}, '
        f'called as labelled: {(called == labels).mean():.3f}, '
        f'class shares {shares.min():.3f} to {shares.max():.3f}'
    )


if __name__ == '__main__':
    main()
