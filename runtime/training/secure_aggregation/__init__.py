"""Sums of client vectors of which the server learns nothing but the sum.  Off unless a training job asks for it.

    client u                                    server
    SecureClient(...)        ── PublicKeys ──►  relays all                      U1: who sent keys
    share_keys(all keys)     ── sealed ──────►  relays each to its recipient    U2: who sent shares
    mask(vector, sealed)     ── y_u ─────────►  sums                            U3: who sent a masked vector
    unmask(U3)               ── Unmasking ───►  remove_masks(...)  = sum of x_u over U3

    y_u = x_u + PRG(b_u) + sum over v > u in U2 of PRG(s_uv) - sum over v < u in U2 of PRG(s_uv)      mod 2^32

Pair masks cancel when both of a pair are in U3.  For a client in U2 that is not, `threshold` survivors reveal their shares of its
mask key; for one in U3 those of its own seed b_u, which protects it should its vector merely have been late.  Never both.

It protects against a curious server and curious clients, fewer than `threshold`, that follow the protocol.  It does not protect
against a server that tells clients different survivors or makes up keys: that needs signatures, which are not here.
Source: Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017, Figure 4 without
the steps marked for active adversaries.
"""
