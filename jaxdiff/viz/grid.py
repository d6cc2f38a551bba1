"""Images side by side in one picture, and pictures that say how they were made."""

import io
import json
import math

import numpy as np
from etils import epath
from PIL import Image
from PIL.PngImagePlugin import PngInfo

# https://www.iptc.org/std/photometadata/specification, Digital Source Type
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType='
    '"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>'
    '</rdf:RDF></x:xmpmeta>'
)


def tile(images: np.ndarray, columns: int | None = None, zoom: int | None = None) -> np.ndarray:
    """Images uint8 [n, h, w, c] as one picture [H, W, 3], row by row on white, one pixel apart.

    Args:
      columns: images in a row; None makes the grid as square as it can be.
      zoom: each pixel becomes zoom × zoom; None makes small images at least 48 pixels high.
    """
    n, h, w, _ = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    zoom = zoom or max(1, math.ceil(48 / h))
    images = to_rgb(images).repeat(zoom, 1).repeat(zoom, 2)
    rows, gap = math.ceil(n / columns), max(1, zoom // 2)
    canvas = np.full(
        (rows * (h * zoom + gap) + gap, columns * (w * zoom + gap) + gap, 3), 255, np.uint8
    )
    for i, image in enumerate(images):
        top, left = (gap + k * (size * zoom + gap) for k, size in zip(divmod(i, columns), (h, w)))
        canvas[top : top + h * zoom, left : left + w * zoom] = image
    return canvas


def to_rgb(images: np.ndarray) -> np.ndarray:
    """uint8 [..., c] as [..., 3]: grey, colours, or colours with transparency, laid on white."""
    if images.shape[-1] not in (1, 3, 4):
        raise ValueError(f'a picture needs 1, 3 or 4 channels, got {images.shape[-1]}')
    if images.shape[-1] == 4:
        share = images[..., 3:] / 255
        return np.round(share * images[..., :3] + (1 - share) * 255).astype(np.uint8)
    return np.broadcast_to(images, (*images.shape[:-1], 3))


def about(made: dict) -> PngInfo:
    """What a picture is saved with as its `pnginfo`: `made` as JSON under 'jaxdiff' in its text metadata.

    Where that says that it is 'generated', IPTC's digital source type says so to other programs.
    """
    info = PngInfo()
    for key, words in (('Software', 'jaxdiff'), ('jaxdiff', json.dumps(made))):
        info.add_text(key, words)
    if made.get('generated'):
        info.add_itxt('XML:com.adobe.xmp', _XMP)
    return info


def save_png(path: epath.Path, picture: np.ndarray, made: dict) -> None:
    """Writes a picture [h, w, 3] with what is said `about` it."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, 'PNG', pnginfo=about(made))
    path.write_bytes(buffer.getvalue())


def read_made(path: epath.Path) -> dict:
    """What `save_png` wrote about how a picture was made."""
    with path.open('rb') as file:
        return json.loads(Image.open(file).text['jaxdiff'])
