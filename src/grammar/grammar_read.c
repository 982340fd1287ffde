/* SPDX-License-Identifier: MIT */
/* grammar_read.c: see grammar_read.h. */
#include "grammar/grammar_read.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"

bool read_open(struct grammar_reader *reader)
{
    enum { FIRST = 64 };
    reader->failed = false;
    reader->all = size_alloc(FIRST, sizeof *reader->all); /* lists on the stack begin somewhere */
    reader->room = FIRST;
    if (reader->all != NULL && hash_table_open(&reader->table, FIRST))
        return true;
    read_memory(reader, FIRST * sizeof *reader->table.slots);
    return false;
}

void read_close(struct grammar_reader *reader)
{
    hash_table_close(&reader->table);
    free(reader->names);
    free(reader->all);
}

/* ---- errors --------------------------------------------------------------------------------- */

static unsigned line_of(const struct grammar_reader *reader, uint32_t at)
{
    unsigned line = 1;
    for (uint32_t i = 0; i < at && i < reader->n; i++)
        line += reader->text[i] == '\n';
    return line;
}

node read_error(struct grammar_reader *reader, uint32_t at, const char *format, ...)
{
    char message[400];
    if (reader->failed)
        return GRAMMAR_NONE;
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    error_input(reader->err, "%s, line %u: %s", reader->where, line_of(reader, at), message);
    reader->failed = true;
    return GRAMMAR_NONE;
}

node read_expected(struct grammar_reader *reader, uint32_t at, const char *what)
{
    uint32_t scalar;
    if (at >= reader->n)
        return read_error(reader, at, "expected %s, found the end", what);
    unsigned char c = (unsigned char)reader->text[at];
    if (c == '\n' || c == '\r')
        return read_error(reader, at, "expected %s, found the end of the line", what);
    int n = utf8_decode((const uint8_t *)reader->text + at, reader->n - at, &scalar);
    if (n <= 0 || c < ' ' || c == 0x7f)
        return read_error(reader, at, "expected %s, found the byte 0x%02x", what, (unsigned)c);
    return read_error(reader, at, "expected %s, found '%.*s'", what, n, reader->text + at);
}

node read_error_of(struct grammar_reader *reader, uint32_t at, const struct llama3_error *err)
{
    if (err->code == LLAMA3_EINPUT)
        return read_error(reader, at, "%s", err->message);
    if (!reader->failed)
        error_copy(reader->err, err);
    reader->failed = true;
    return GRAMMAR_NONE;
}

node read_memory(struct grammar_reader *reader, size_t bytes)
{
    if (!reader->failed)
        error_memory(reader->err, reader->where, bytes);
    reader->failed = true;
    return GRAMMAR_NONE;
}

int read_check(struct grammar_reader *reader, uint32_t start_at)
{
    struct llama3_error err = {.size = sizeof err};
    if (!reader->failed && grammar_check(reader->grammar, &err))
        read_error_of(reader, start_at, &err);
    return reader->failed ? -1 : 0;
}

/* ---- names and lists ------------------------------------------------------------------------ */

struct sought_name {
    const struct grammar_reader *reader;
    uint32_t at, n;
};

static bool same_name(const void *arg, int32_t id)
{
    const struct sought_name *sought = arg;
    const struct grammar_reader *reader = sought->reader;
    const struct read_name *name = &reader->names[id];
    return name->n == sought->n &&
           memcmp(reader->text + name->at, reader->text + sought->at, name->n) == 0;
}

static struct hash_slot *name_slot(struct grammar_reader *reader, uint32_t at, uint32_t n,
                                   uint64_t *hash)
{
    struct sought_name sought = {reader, at, n};
    *hash = hash_bytes(&reader->table.key, reader->text + at, n, NULL, 0);
    return hash_table_slot(&reader->table, *hash, same_name, &sought);
}

/* Room for one more. */
static bool grow_names(struct grammar_reader *reader)
{
    struct hash_table larger;
    uint64_t hash;
    if (reader->n_names < reader->names_room)
        return true;
    size_t room = reader->names_room * (size_t)2 + 32;
    struct read_name *names = realloc(reader->names, room * sizeof *names);
    if (names)
        reader->names = names;
    if (!names || !hash_table_open(&larger, room)) {
        read_memory(reader, room * sizeof *names);
        return false;
    }
    reader->names_room = (uint32_t)room;
    hash_table_close(&reader->table);
    reader->table = larger;
    for (uint32_t i = 0; i < reader->n_names; i++) {
        struct hash_slot *slot = name_slot(reader, names[i].at, names[i].n, &hash);
        *slot = (struct hash_slot){.hash = (uint32_t)hash, .id = (int32_t)i};
    }
    return true;
}

uint32_t read_name(struct grammar_reader *reader, uint32_t at, uint32_t n, uint32_t value)
{
    uint64_t hash;
    if (!grow_names(reader))
        return READ_NO_PLACE;
    struct hash_slot *slot = name_slot(reader, at, n, &hash);
    if (slot->id >= 0)
        return (uint32_t)slot->id;
    *slot = (struct hash_slot){.hash = (uint32_t)hash, .id = (int32_t)reader->n_names};
    reader->names[reader->n_names] = (struct read_name){
        .at = at, .n = n, .used = READ_NO_PLACE, .defined_at = READ_NO_PLACE, .value = value};
    return reader->n_names++;
}

void read_push(struct grammar_reader *reader, uint32_t part)
{
    if (reader->n_all == reader->room) {
        size_t room = reader->room * 2 + 64;
        uint32_t *all = realloc(reader->all, room * sizeof *all);
        if (!all) {
            read_memory(reader, room * sizeof *all);
            return;
        }
        reader->all = all;
        reader->room = room;
    }
    reader->all[reader->n_all++] = part;
}

/* ---- numbers and characters ----------------------------------------------------------------- */

uint32_t read_count(struct grammar_reader *reader)
{
    uint32_t begin = reader->at, count = 0;
    for (; reader->at < reader->n; reader->at++) {
        char c = reader->text[reader->at];
        if (c < '0' || c > '9')
            break;
        count = count * 10 + (uint32_t)(c - '0');
        if (count > READ_MAX_COUNT)
            return read_error(reader, begin, "expected a count of at most %d, found more",
                              READ_MAX_COUNT);
    }
    if (reader->at == begin)
        return read_expected(reader, begin, "a number");
    return count;
}

uint32_t read_hex(struct grammar_reader *reader, int digits)
{
    uint32_t value = 0;
    for (int i = 0; i < digits; i++, reader->at++) {
        char c = reader->at < reader->n ? reader->text[reader->at] : ' ';
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A') + 10
                                                : 16;
        if (digit == 16)
            return read_expected(reader, reader->at, "a hexadecimal digit");
        value = value << 4 | digit;
    }
    return value;
}

uint32_t read_scalar(struct grammar_reader *reader)
{
    uint32_t scalar = 0;
    int n = reader->at < reader->n ? utf8_decode((const uint8_t *)reader->text + reader->at,
                                                 reader->n - reader->at, &scalar)
                                   : 0;
    if (n <= 0)
        return read_expected(reader, reader->at, "a character in UTF-8");
    reader->at += (uint32_t)n;
    return scalar;
}
