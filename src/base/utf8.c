/* SPDX-License-Identifier: MIT */
#include "base/utf8.h"

int utf8_decode(const uint8_t *text, size_t n, uint32_t *scalar)
{
    uint8_t first = text[0];
    if (first < 0x80) {
        *scalar = first;
        return 1;
    }

    /* RFC 3629, section 4: the second byte's range depends on the first. */
    int length;
    uint8_t low = 0x80, high = 0xbf;
    if (first >= 0xc2 && first <= 0xdf) {
        length = 2;
    } else if (first >= 0xe0 && first <= 0xef) {
        length = 3;
        low = first == 0xe0 ? 0xa0 : low;
        high = first == 0xed ? 0x9f : high;
    } else if (first >= 0xf0 && first <= 0xf4) {
        length = 4;
        low = first == 0xf0 ? 0x90 : low;
        high = first == 0xf4 ? 0x8f : high;
    } else {
        return 0;
    }

    uint32_t value = first & (0xffu >> (length + 1));
    for (int i = 1; i < length; i++) {
        if ((size_t)i == n)
            return -1;
        if (text[i] < low || text[i] > high)
            return 0;
        value = value << 6 | (text[i] & 0x3f);
        low = 0x80;
        high = 0xbf;
    }
    *scalar = value;
    return length;
}

int utf8_encode(uint32_t scalar, uint8_t out[4])
{
    if (scalar < 0x80) {
        out[0] = (uint8_t)scalar;
        return 1;
    }
    if (scalar < 0x800) {
        out[0] = (uint8_t)(0xc0 | scalar >> 6);
        out[1] = (uint8_t)(0x80 | (scalar & 0x3f));
        return 2;
    }
    if (scalar < 0x10000) {
        out[0] = (uint8_t)(0xe0 | scalar >> 12);
        out[1] = (uint8_t)(0x80 | (scalar >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (scalar & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | scalar >> 18);
    out[1] = (uint8_t)(0x80 | (scalar >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (scalar >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (scalar & 0x3f));
    return 4;
}

size_t utf8_valid(const uint8_t *text, size_t n)
{
    size_t at = 0;
    while (at < n) {
        uint32_t scalar;
        int length = utf8_decode(text + at, n - at, &scalar);
        if (length <= 0)
            break;
        at += (size_t)length;
    }
    return at;
}
