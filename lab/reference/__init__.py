"""A second implementation of the wire protocol, to be read and to be tried against the engine.

It is written from docs/protocol.md alone, in Python's own library alone. It is slow, and it is NOT
CONSTANT TIME: whoever can measure how long it takes learns about its keys. Use keys that are worth
nothing. docs/reference-node.md says how it is run and what it leaves out.

    x25519, chacha20poly1305, noise    the cryptography
    messages, cookies, session         what is on the wire, and what is sealed there
    peer, links                        handshakes, timers, endpoints
    records, frames, switch, owners    control records, learning, moves
    config, tap, node                  the program
"""
