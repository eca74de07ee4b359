"""What an input is known by as it came over a link: the digest of its encoded frames.

Frames and not decoded tensors: equal frames under equal headers decode to equal tensors, because decoding is a
function, so no wrong answer can come of it; a hit needs no decoding, and a miss does not decode twice.  What it costs
are hits between codecs: the same tensors in two lossless codecs have two digests.  Lossy codecs differ in the tensors
too, and what is looked up is the answer to what would have been decoded here.
"""

from __future__ import annotations

import hashlib

import msgspec

from runtime.codecs.parcel import Parcel, unpack
from runtime.inference.cache.fingerprint import DIGEST_BYTES, Fingerprint, Sketcher


def parcel_fingerprint(parcel: Parcel, sketcher: Sketcher | None = None) -> Fingerprint:
    """Digest of a parcel, and with a sketcher the sketch of its decoded tensors.

    Raises MalformedMessage when it must be decoded and cannot be, InvalidTensor for tensors that are not the sketcher's.
    """
    return Fingerprint(digest=parcel_digest(parcel), sketch=sketcher.sketch(unpack(parcel).tensors) if sketcher else None)


def parcel_digest(parcel: Parcel) -> bytes:
    """BLAKE2b-256 over codec, specs, headers and frames, each frame behind its length."""
    digest = hashlib.blake2b(msgspec.msgpack.encode((parcel.codec, parcel.specs, parcel.headers)), digest_size=DIGEST_BYTES)
    for frame in parcel.frames:
        digest.update(len(frame).to_bytes(8, "little"))
        digest.update(frame)
    return digest.digest()
