"""Pictures as documents, where OCR is on: each frame becomes a page of a PDF, which is then read as a scan."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from pipeline.errors import Permanent
from pipeline.files.sentences import DAMAGED
from pipeline.local.readers.pdf import NOTHING_RECOGNISED, read_pdf

if TYPE_CHECKING:
    from pipeline.local.readers.reader import Options, Text

_MOST_PIXELS = 120_000_000  # of one frame: a large poster at 300 dots an inch
_TOO_LARGE = "The picture is too large to be read. Upload it in a lower resolution."
_NO_TEXT = "No text could be recognised in this picture."
_DPI = 150  # where the file does not say; OCR works at this resolution


def read_picture(data: bytes, options: Options, text: Text) -> None:
    """Send what OCR reads in a PNG, JPEG or TIFF, a page a frame. Raises Permanent for what is no picture."""
    from PIL import Image, ImageSequence, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = _MOST_PIXELS // 2  # it raises at twice this number
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    packed = io.BytesIO()
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "TIFF")) as picture:
            frames = getattr(picture, "n_frames", 1)
            if frames > options.max_pages:
                raise Permanent(f"The file has {frames} pages; {options.max_pages} are allowed here.")
            shown = (_on_white(frame) for frame in ImageSequence.Iterator(picture))
            first = next(shown)
            first.save(packed, "PDF", save_all=True, append_images=shown, resolution=_DPI)
    except Image.DecompressionBombError as error:
        raise Permanent(_TOO_LARGE, detail=str(error)[:500]) from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise Permanent(DAMAGED, detail=str(error)[:500]) from None
    try:
        read_pdf(packed.getvalue(), options, text)
    except Permanent as problem:
        raise Permanent(_NO_TEXT) if problem.message == NOTHING_RECOGNISED else problem from None


def _on_white(frame):
    """A frame as a scanner would have made it: grey, upright as its camera noted, on white where it is transparent."""
    from PIL import Image, ImageOps

    frame = ImageOps.exif_transpose(frame)
    if frame.mode in ("RGBA", "LA", "PA") or "transparency" in frame.info:
        frame = frame.convert("RGBA")
        frame = Image.alpha_composite(Image.new("RGBA", frame.size, "white"), frame)
    return frame.convert("L")
