/* SPDX-License-Identifier: MIT */
/*
 * decoder.c: bytes to whole characters. The held bytes are always the beginning of some character.
 * A byte that can't continue it ends a maximal subpart: the held bytes become one U+FFFD, and the
 * byte starts anew.
 */
#include "base/utf8.h"
#include "text/tokenizer.h"

static void add_replacement(struct buf *out)
{
    buf_add(out, "\xef\xbf\xbd", 3);
}

static void push_byte(struct decoder *decoder, uint8_t byte, struct buf *out)
{
    uint32_t scalar;

    decoder->held[decoder->n_held++] = byte;
    int length = utf8_decode(decoder->held, decoder->n_held, &scalar);
    if (length == 0) {
        bool continued = decoder->n_held > 1;
        add_replacement(out);
        decoder->n_held = 0;
        if (continued)
            push_byte(decoder, byte, out);
    } else if (length > 0) {
        buf_add(out, decoder->held, decoder->n_held);
        decoder->n_held = 0;
    }
}

void decoder_push(struct decoder *decoder, const uint8_t *bytes, size_t n, struct buf *out)
{
    bool strips = decoder->strips_blank && n > 0;
    if (strips && bytes[0] == ' ') {
        bytes++;
        n--;
    }
    decoder->strips_blank = decoder->strips_blank && !strips;
    while (n > 0) {
        size_t whole = decoder->n_held == 0 ? utf8_valid(bytes, n) : 0;
        if (whole > 0) {
            buf_add(out, bytes, whole);
        } else {
            push_byte(decoder, bytes[0], out);
            whole = 1;
        }
        bytes += whole;
        n -= whole;
    }
}

void decoder_finish(struct decoder *decoder, struct buf *out)
{
    if (decoder->n_held > 0)
        add_replacement(out);
    decoder->n_held = 0;
}
