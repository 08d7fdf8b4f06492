#!/usr/bin/env python3
"""The safety number of two people, by the description in safetynumber.go and nothing else.

safetynumber.py ADDRESS CERTIFICATE ADDRESS CERTIFICATE   (binary certificates, as gpg --export writes them)
"""
import hashlib
import sys


def primary_key(data):
    tag = data[0]
    if tag & 0x40:  # RFC 9580 4.2.1
        if data[1] < 192:
            length, start = data[1], 2
        elif data[1] < 224:
            length, start = ((data[1] - 192) << 8) + data[2] + 192, 3
        else:
            length, start = int.from_bytes(data[2:6], "big"), 6
    else:  # 4.2.2
        size = 1 << (tag & 3)
        length, start = int.from_bytes(data[1 : 1 + size], "big"), 1 + size
    return data[start : start + length]


def half(address, file):
    with open(file, "rb") as f:
        key = primary_key(f.read())
    digest = b"Sealpost safety number 1\0" + address.lower().encode() + b"\0" + key
    for _ in range(5200):
        digest = hashlib.sha512(digest + key).digest()
    return "".join("%05d" % (int.from_bytes(digest[5 * i : 5 * i + 5], "big") % 100000) for i in range(6))


a, b = half(*sys.argv[1:3]), half(*sys.argv[3:5])
print(min(a, b) + max(a, b))
