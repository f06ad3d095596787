"""Where the logits of a student lie in its picture.

A network of stride s makes w logits of a picture W pixels wide. They lie in one of two ways:

- W = s * w: logit i covers the pixels s * i to s * i + s - 1, and its centre is theirs (align_corners=False);
- W = s * (w - 1) + 1: logit i lies on pixel s * i, the first and the last on the picture's corners (align_corners=True).
"""


def has_corner_logits(width: int, height: int) -> bool:
    """Tell whether the logits of a student's picture of `width` x `height` pixels lie from corner to corner.

    The strides of all students are even, so that this is so where both sides are odd.
    """
    return width % 2 == 1 and height % 2 == 1
