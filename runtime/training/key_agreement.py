"""Keys that two clients share and the server between them does not: X25519, HKDF and ChaCha20-Poly1305.

All key pairs are made for one round and forgotten with it, so that one key never seals two messages of one direction.

Source: RFC 7748 (X25519), RFC 5869 (HKDF), RFC 8439 (ChaCha20-Poly1305); used as in Bonawitz et al., CCS 2017, section 3.
"""

from __future__ import annotations

from runtime.errors import MalformedMessage, MissingExtra

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError as exc:
    raise MissingExtra("secure aggregation needs the package cryptography: pip install 'drlctl[secure]'") from exc

KEY_BYTES = 32


def public_key(private: bytes) -> bytes:
    """The public key of 32 private bytes."""
    return bytes(X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw())


def agree(private: bytes, peer_public: bytes, purpose: bytes) -> bytes:
    """32 bytes that both sides derive alike, different for each purpose.  Raises MalformedMessage for a key that agrees with nobody."""
    try:
        shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(peer_public))
    except ValueError as exc:
        raise MalformedMessage(f"not a usable X25519 public key: {exc}") from exc
    return bytes(HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"drlctl " + purpose).derive(shared))


def _nonce(sender: int, recipient: int) -> bytes:
    # Both directions have one key, and each sends one message: the direction alone makes the nonce unique.
    return sender.to_bytes(6, "big") + recipient.to_bytes(6, "big")


def seal(key: bytes, plaintext: bytes, *, sender: int, recipient: int) -> bytes:
    """Encrypt and authenticate.  At most once per key and direction."""
    return bytes(ChaCha20Poly1305(key).encrypt(_nonce(sender, recipient), plaintext, None))


def unseal(key: bytes, sealed: bytes, *, sender: int, recipient: int) -> bytes:
    """Decrypt what `seal` made for this direction.  Raises MalformedMessage when it was changed or meant for another."""
    try:
        return bytes(ChaCha20Poly1305(key).decrypt(_nonce(sender, recipient), sealed, None))
    except InvalidTag as exc:
        raise MalformedMessage(
            f"sealed shares from client {sender} to {recipient} do not open: changed, or sealed with another key"
        ) from exc
