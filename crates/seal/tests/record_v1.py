"""A second implementation of the record format, version 1, without any library.

It is here for two reasons: record_v1.rs reads what this writes, so the format is what the description in src/record.rs
says and not what our code happens to do; and whoever has the data keys can read a database without Tokenvault.

    python3 record_v1.py make > record_v1.json     writes the known answers
    python3 record_v1.py check record_v1.json      reads them again

The AES in here leaks its keys through timing. Use it for tests and rescue only.
"""

import hashlib
import hmac
import json
import sys

FORMAT, SUITE = 1, 1


# AES-256 (FIPS 197) and GCM (NIST SP 800-38D), as plain as they can be.

def _sbox():
    box, p, q = [0x63] * 256, 1, 1
    while True:
        p ^= (p << 1) ^ (0x11B if p & 0x80 else 0)
        for shift in (1, 2, 4):
            q ^= q << shift
        q &= 0xFF
        q ^= 0x09 if q & 0x80 else 0
        rotated = [(q << n | q >> (8 - n)) & 0xFF for n in range(5)]
        box[p & 0xFF] = 0x63 ^ rotated[0] ^ rotated[1] ^ rotated[2] ^ rotated[3] ^ rotated[4]
        if p == 1:
            return box


SBOX = _sbox()


def _double(byte):
    return (byte << 1) ^ (0x11B if byte & 0x80 else 0)


def _expand_key(key):
    words, rcon = [list(key[n:n + 4]) for n in range(0, 32, 4)], 1
    for n in range(8, 60):
        word = list(words[-1])
        if n % 8 == 0:
            word = [SBOX[byte] for byte in word[1:] + word[:1]]
            word[0] ^= rcon
            rcon = _double(rcon)
        elif n % 8 == 4:
            word = [SBOX[byte] for byte in word]
        words.append([a ^ b for a, b in zip(words[n - 8], word)])
    return [sum(words[n:n + 4], []) for n in range(0, 60, 4)]


def _encrypt_block(round_keys, block):
    state = [a ^ b for a, b in zip(block, round_keys[0])]
    for number, round_key in enumerate(round_keys[1:], 1):
        state = [SBOX[byte] for byte in state]
        state = [state[(n + 4 * (n % 4)) % 16] for n in range(16)]
        if number < 14:
            mixed = []
            for column in range(0, 16, 4):
                a = state[column:column + 4]
                for n in range(4):
                    mixed.append(_double(a[n]) ^ _double(a[(n + 1) % 4]) ^ a[(n + 1) % 4]
                                 ^ a[(n + 2) % 4] ^ a[(n + 3) % 4])
            state = mixed
        state = [a ^ b for a, b in zip(state, round_key)]
    return bytes(state)


def _multiply(x, y):
    """In the field of GCM, whose first bit is the lowest power."""
    z = 0
    for n in range(127, -1, -1):
        if x >> n & 1:
            z ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return z


def _blocks(data):
    return [int.from_bytes(data[n:n + 16].ljust(16, b"\0"), "big") for n in range(0, len(data), 16)]


class Gcm:
    """AES-256-GCM with the nonce that is all zeros."""

    def __init__(self, key):
        self.keys = _expand_key(key)
        self.h = int.from_bytes(_encrypt_block(self.keys, bytes(16)), "big")

    def mask(self):
        return int.from_bytes(_encrypt_block(self.keys, bytes(15) + b"\1"), "big")

    def crypt(self, data):
        out = bytearray()
        for n in range(0, len(data), 16):
            stream = _encrypt_block(self.keys, bytes(12) + (n // 16 + 2).to_bytes(4, "big"))
            out += bytes(a ^ b for a, b in zip(data[n:n + 16], stream))
        return bytes(out)

    def tag(self, aad, ciphertext):
        lengths = len(aad) * 8 << 64 | len(ciphertext) * 8
        y = 0
        for block in _blocks(aad) + _blocks(ciphertext) + [lengths]:
            y = _multiply(y ^ block, self.h)
        return (y ^ self.mask()).to_bytes(16, "big")


# The format.

def prefixed(part):
    return len(part).to_bytes(4, "big") + part


def associated_data(deployment, table, row_id, field, generation, version):
    parts = [deployment, deployment, table, row_id, field]
    return (bytes([FORMAT]) + b"".join(prefixed(part.encode()) for part in parts)
            + generation.to_bytes(8, "big") + version.to_bytes(4, "big") + bytes([SUITE]))


def derive(data_key, salt, aad):
    """HKDF-SHA-512 (RFC 5869): 64 bytes are one block."""
    info = b"tv/record/1" + len(aad).to_bytes(2, "big") + aad
    pseudo_random_key = hmac.digest(salt, data_key, "sha512")
    okm = hmac.digest(pseudo_random_key, info + b"\1", "sha512")
    return okm[:32], okm[32:]


def frame(plaintext):
    framed = prefixed(plaintext)
    return framed + bytes(-len(framed) % 256)


def seal_frame(data_key, version, aad, salt, framed):
    key, commitment = derive(data_key, salt, aad)
    gcm = Gcm(key)
    ciphertext = gcm.crypt(framed)
    return (bytes([FORMAT, SUITE]) + version.to_bytes(4, "big") + salt + commitment
            + ciphertext + gcm.tag(aad, ciphertext))


def open_record(keys, deployment, context, record):
    """The plaintext, or the name of the reason why not."""
    if len(record) < 2:
        return "Truncated"
    if record[0] != FORMAT:
        return "UnknownFormat"
    if record[1] != SUITE:
        return "UnknownSuite"
    if len(record) < 6:
        return "Truncated"
    version = int.from_bytes(record[2:6], "big")
    if version not in keys:
        return "UnknownKey"
    if len(record) < 70 + 16:
        return "Truncated"
    salt, commitment, ciphertext, tag = record[6:38], record[38:70], record[70:-16], record[-16:]
    aad = associated_data(deployment, *context, version)
    key, expected = derive(keys[version], salt, aad)
    if not hmac.compare_digest(commitment, expected):
        return "Commitment"
    gcm = Gcm(key)
    if not hmac.compare_digest(gcm.tag(aad, ciphertext), tag):
        return "Authentication"
    framed = gcm.crypt(ciphertext)
    length = int.from_bytes(framed[:4], "big")
    if len(framed) < 4 or length > len(framed) - 4:
        return "Authentication"
    return framed[4:4 + length]


# The known answers.

DEPLOYMENT = "dep_known_answers"
KEYS = {version: hashlib.sha256(b"data key %d" % version).digest() for version in (1, 2, 258)}


def _bytes(label, length):
    return hashlib.shake_128(label.encode()).digest(length)


def _two_keys(context, salt):
    """A record whose ciphertext and tag are right under versions 1 and 2: only the commitment tells (CR-07).

    The tag is linear in each block of the ciphertext, so one free block is enough to make two tags equal.
    """
    gcms, aads, keys = [], [], []
    for version in (1, 2):
        aads.append(associated_data(DEPLOYMENT, *context, version))
        keys.append(derive(KEYS[version], salt, aads[-1]))
        gcms.append(Gcm(keys[-1][0]))
    ciphertext = bytearray(_bytes("two keys", 256))
    ciphertext[-16:] = bytes(16)
    tags = [int.from_bytes(gcm.tag(aad, bytes(ciphertext)), "big") for gcm, aad in zip(gcms, aads)]
    # The last block is followed by the lengths: it counts times h squared.
    squares = [_multiply(gcm.h, gcm.h) for gcm in gcms]
    wanted, factor = tags[0] ^ tags[1], squares[0] ^ squares[1]
    inverse, power = 1 << 127, factor
    for _ in range(127):
        power = _multiply(power, power)
        inverse = _multiply(inverse, power)
    ciphertext[-16:] = _multiply(wanted, inverse).to_bytes(16, "big")
    tag = gcms[0].tag(aads[0], bytes(ciphertext))
    assert tag == gcms[1].tag(aads[1], bytes(ciphertext))
    body = salt + keys[0][1] + bytes(ciphertext) + tag
    return [bytes([FORMAT, SUITE]) + version.to_bytes(4, "big") + body for version in (1, 2)]


def make():
    cases = []

    def add(name, context, record, result, **more):
        opened = open_record(KEYS, DEPLOYMENT, context, record)
        assert opened == result, (name, opened, result)
        case = {"name": name, "table": context[0], "row_id": context[1], "field": context[2],
                "generation": context[3], "record": record.hex()}
        case.update({"error": result} if isinstance(result, str) else {"plaintext": result.hex()})
        cases.append(case | more)

    def seal(context, version, salt, plaintext):
        aad = associated_data(DEPLOYMENT, *context, version)
        return seal_frame(KEYS[version], version, aad, salt, frame(plaintext))

    contexts = [("token_set", "cac_%d" % n, "tokens", n) for n in range(6)] + [
        ("", "", "", 0), ("a", "b", "c", 2 ** 64 - 1), ("tokén", "行", "🔑", 7), ("t", "r" * 300, "f", 1)]
    lengths = [0, 1, 15, 16, 17, 31, 32, 100, 251, 252, 253, 400]
    for number in range(100):
        context = contexts[number % len(contexts)]
        version = sorted(KEYS)[number % 3]
        salt = _bytes("salt %d" % number, 32)
        plaintext = _bytes("plaintext %d" % number, lengths[number % len(lengths)])
        add("valid %d" % number, context, seal(context, version, salt, plaintext), plaintext, version=version)

    here = ("token_set", "cac_1", "tokens", 3)
    salt = _bytes("salt", 32)
    good = seal(here, 1, salt, b"secret")
    add("good", here, good, b"secret", version=1)
    for length in (0, 1, 2, 5, 6, 37, 38, 69, 70, 85):
        add("cut to %d" % length, here, good[:length], "Truncated")
    for length in (86, 87, len(good) - 1):
        add("cut to %d" % length, here, good[:length], "Authentication")
    add("one byte more", here, good + b"\0", "Authentication")
    for byte in (0, 2, 0x80, 0xFF):
        add("format %d" % byte, here, bytes([byte]) + good[1:], "UnknownFormat")
        add("suite %d" % byte, here, bytes([1, byte]) + good[2:], "UnknownSuite")
    for version in (0, 3, 2 ** 32 - 1):
        add("data key %d" % version, here, good[:2] + version.to_bytes(4, "big") + good[6:], "UnknownKey")
    for version in (2, 258):
        add("renamed to data key %d" % version, here, good[:2] + version.to_bytes(4, "big") + good[6:], "Commitment")
    for place in (6, 37, 38, 69):
        changed = bytearray(good)
        changed[place] ^= 0x80
        add("bit of byte %d" % place, here, bytes(changed), "Commitment")
    for place in (70, 73, 74, 200, len(good) - 17, len(good) - 16, len(good) - 1):
        changed = bytearray(good)
        changed[place] ^= 1
        add("bit of byte %d" % place, here, bytes(changed), "Authentication")
    for elsewhere in [("token_set", "cac_2", "tokens", 3), ("token_set", "cac_1", "token", 3),
                      ("connection", "cac_1", "tokens", 3), ("token_set", "cac_1", "tokens", 2),
                      ("token_setc", "ac_1", "tokens", 3)]:
        add("moved to %s" % (elsewhere,), elsewhere, good, "Commitment")
    other = associated_data("dep_other", *here, 1)
    add("of another deployment", here, seal_frame(KEYS[1], 1, other, salt, frame(b"secret")), "Commitment")
    aad = associated_data(DEPLOYMENT, *here, 1)
    for name, framed in [("a length beyond the frame", b"\0\0\1\0" + bytes(252)),
                         ("the largest length", b"\xff" * 4 + bytes(252)),
                         ("an empty frame", b""), ("half a length", b"\0\0\0")]:
        add(name, here, seal_frame(KEYS[1], 1, aad, salt, framed), "Authentication")
    under_1, under_2 = _two_keys(here, salt)
    add("two keys, the first", here, under_1, open_record(KEYS, DEPLOYMENT, here, under_1))
    add("two keys, the second", here, under_2, "Commitment")
    json.dump({"deployment": DEPLOYMENT, "keys": {str(v): k.hex() for v, k in KEYS.items()}, "cases": cases},
              sys.stdout, indent=0, ensure_ascii=False)
    print()


def check(path):
    with open(path, encoding="utf-8") as file:
        known = json.load(file)
    keys = {int(version): bytes.fromhex(key) for version, key in known["keys"].items()}
    for case in known["cases"]:
        context = (case["table"], case["row_id"], case["field"], case["generation"])
        opened = open_record(keys, known["deployment"], context, bytes.fromhex(case["record"]))
        expected = case["error"] if "error" in case else bytes.fromhex(case["plaintext"])
        assert opened == expected, case["name"]
    print("%d records read as expected" % len(known["cases"]))


if __name__ == "__main__":
    if sys.argv[1:] == ["make"]:
        make()
    elif sys.argv[1:2] == ["check"] and len(sys.argv) == 3:
        check(sys.argv[2])
    else:
        sys.exit(__doc__)
