/* SPDX-License-Identifier: MIT */
#include "tool/pull_show.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tool/say.h"
#include "tool/terminal.h"

enum {
    SAMPLES = 16,
    BAR = 20,
    MAX_LINES = 9,
    MAX_WIDTH = 200,
    STATE = 44 /* columns of figures */
};

static const double DELAY = 0.3, SAMPLE_EVERY = 0.5, LINE_EVERY = 10;

/* The last SAMPLES times, and how many bytes there were. */
struct samples {
    double time[SAMPLES];
    uint64_t bytes[SAMPLES];
    size_t n;
};

struct shown {
    struct samples samples;
    uint64_t bytes; /* shown last; never goes back */
    bool told;      /* its line was written (without a terminal) */
};

struct pull_show {
    const struct fetch *fetch;
    size_t n; /* blobs in all, of which fetch->n are fetched now */
    bool terminal;
    double begun, sampled, told;
    struct shown *files; /* [n] */
    struct shown all;
    struct shown quantized;
    uint64_t to_quantize; /* 0: nothing */
};

struct pull_show *pull_show_open(const struct fetch *fetch, size_t n)
{
    struct pull_show *show = calloc(1, sizeof *show);
    if (show == NULL || (show->files = calloc(n + 1, sizeof *show->files)) == NULL) {
        free(show);
        return NULL;
    }
    show->fetch = fetch;
    show->n = n;
    show->terminal = terminal_can_draw();
    show->begun = show->told = clock_seconds();
    for (size_t i = 0; i < n; i++)
        show->files[i].told = fetch->blobs[i].state == BLOB_DONE; /* there already */
    return show;
}

/* ---- figures --------------------------------------------------------------------------------- */

static uint64_t bytes_of(const struct blob *blob)
{
    return blob->state == BLOB_DONE ? blob->file->size : ranges_bytes(&blob->have);
}

static void sample(struct shown *shown, uint64_t bytes, double now)
{
    struct samples *s = &shown->samples;
    if (bytes > shown->bytes)
        shown->bytes = bytes;
    s->time[s->n % SAMPLES] = now;
    s->bytes[s->n++ % SAMPLES] = bytes;
}

/* Bytes a second over the last samples; 0 if not known yet. */
static double rate_of(const struct samples *s)
{
    if (s->n < 2)
        return 0;
    size_t last = (s->n - 1) % SAMPLES, first = s->n > SAMPLES ? s->n % SAMPLES : 0;
    double seconds = s->time[last] - s->time[first];
    return seconds > 0 && s->bytes[last] > s->bytes[first]
               ? (double)(s->bytes[last] - s->bytes[first]) / seconds
               : 0;
}

/* "1.20 of 4.98 GiB, 45 MB/s, 80 s left" */
static void format_state(char *out, size_t size, const struct shown *shown, uint64_t total)
{
    char done[UNIT_SIZE], all[UNIT_SIZE], left[UNIT_SIZE];
    double rate = rate_of(&shown->samples);
    uint64_t more = total > shown->bytes ? total - shown->bytes : 0;
    snprintf(out, size, "%s of %s", unit_bytes(done, shown->bytes), unit_bytes(all, total));
    size_t used = strlen(out);
    if (rate <= 0 || more == 0)
        return;
    unit_left(left, (double)more / rate);
    if (rate < 1e6)
        snprintf(out + used, size - used, ", %.0f kB/s, %s", rate / 1e3, left);
    else
        snprintf(out + used, size - used, ", %.*f MB/s, %s", rate < 1e7 ? 1 : 0, rate / 1e6, left);
}

/* ---- a terminal ------------------------------------------------------------------------------ */

/* A name in `room` columns. Its suffix goes first, then its beginning: the shards of a model differ
 * in the middle. */
static void shorten(char *out, size_t size, const char *name, size_t room)
{
    const char *dot = strrchr(name, '.');
    size_t n = strlen(name);
    if (n > room && dot != NULL && dot > name)
        n = (size_t)(dot - name);
    const char *begin = n > room ? name + n - room : name;
    while (((unsigned char)*begin & 0xc0) == 0x80) /* within a character */
        begin++;
    snprintf(out, size, "%.*s", (int)(name + n - begin), begin);
}

static void format_file(const struct pull_show *show, size_t index, size_t width,
                        char line[MAX_WIDTH + 1])
{
    const struct blob *blob = &show->fetch->blobs[index];
    const struct shown *shown = &show->files[index];
    char bar[BAR + 1], state[128], name[36];
    uint64_t size = blob->file->size;
    size_t filled = size > 0 ? (size_t)((double)BAR * (double)shown->bytes / (double)size) : BAR;
    for (size_t i = 0; i < BAR; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[BAR] = '\0';
    if (blob->state == BLOB_WAITING)
        snprintf(state, sizeof state, "another program fetches it");
    else if (blob_missing(blob) == 0)
        snprintf(state, sizeof state, "verifying, %.0f %%",
                 size > 0 ? 100 * (double)blob->hashed / (double)size : 100);
    else
        format_state(state, sizeof state, shown, size);
    /* the figures matter more than the name, and the name more than the bar */
    int room = width >= 32 + 1 + STATE ? 32 : width > 12 + STATE ? (int)width - STATE - 1 : 12;
    shorten(name, sizeof name, blob->file->name, (size_t)room);
    if (width < 32 + BAR + 4 + STATE)
        snprintf(line, MAX_WIDTH + 1, "%-*s %s", room, name, state);
    else
        snprintf(line, MAX_WIDTH + 1, "%-*s [%s] %s", room, name, bar, state);
}

/* Files that bytes arrive for, and those that wait for another program. */
static bool is_active(const struct fetch *f, size_t index)
{
    const struct blob *blob = &f->blobs[index];
    if (blob->state != BLOB_OPEN)
        return blob->state == BLOB_WAITING;
    if (blob_missing(blob) == 0)
        return true;
    for (int i = 0; i < f->connections; i++)
        if (f->slots[i].blob == blob)
            return true;
    return false;
}

/* The rate is that since the first sample. */
static void format_left_to_quantize(const struct pull_show *show, char *line, size_t size)
{
    char left[UNIT_SIZE];
    double rate = rate_of(&show->quantized.samples);
    uint64_t more = show->to_quantize - show->quantized.bytes;
    snprintf(line, size, "quantizing: %.0f %%",
             100 * (double)show->quantized.bytes / (double)show->to_quantize);
    if (rate <= 0 || show->quantized.bytes >= show->to_quantize)
        return;
    size_t used = strlen(line);
    snprintf(line + used, size - used, ", %s", unit_left(left, (double)more / rate));
}

static void draw(struct pull_show *show, uint64_t total)
{
    char text[MAX_LINES][MAX_WIDTH + 1], state[128];
    const char *lines[MAX_LINES];
    size_t width, most, n = 0, there = 0;
    const struct fetch *f = show->fetch;
    double pause = fetch_pause(f);
    terminal_size(&width, &most);
    width = width < MAX_WIDTH ? width : MAX_WIDTH;
    most = most < MAX_LINES ? most : MAX_LINES;
    for (size_t i = 0; i < f->n && n + 1 + (show->to_quantize > 0) < most; i++)
        if (is_active(f, i))
            format_file(show, i, width, text[n++]);
    for (size_t i = 0; i < show->n; i++)
        there += f->blobs[i].state == BLOB_DONE;
    format_state(state, sizeof state, &show->all, total);
    if (pause > 0)
        snprintf(text[n++], sizeof text[0], "the hub asks to wait: %.0f s", pause);
    else if (show->n > 0)
        snprintf(text[n++], sizeof text[0], "%zu of %zu files: %s", there, show->n, state);
    if (show->to_quantize > 0)
        format_left_to_quantize(show, text[n++], sizeof text[0]);
    for (size_t i = 0; i < n; i++)
        lines[i] = text[i];
    terminal_draw(lines, n);
}

/* ---- elsewhere ------------------------------------------------------------------------------- */

static void tell_files(struct pull_show *show)
{
    char size[UNIT_SIZE];
    for (size_t i = 0; i < show->n; i++) {
        const struct blob *blob = &show->fetch->blobs[i];
        if (blob->state != BLOB_DONE || show->files[i].told)
            continue;
        show->files[i].told = true;
        say_error("%s: %s", blob->file->name, unit_bytes(size, blob->file->size));
    }
}

static void tell_all(struct pull_show *show, uint64_t total, double now)
{
    char state[128];
    if (show->n == 0 || now - show->told < LINE_EVERY)
        return;
    show->told = now;
    format_state(state, sizeof state, &show->all, total);
    if (show->to_quantize > 0)
        say_error("%s; quantizing: %.0f %%", state,
                  100 * (double)show->quantized.bytes / (double)show->to_quantize);
    else
        say_error("%s", state);
}

/* ---- both ------------------------------------------------------------------------------------ */

void pull_show_update(struct pull_show *show)
{
    const struct fetch *f = show->fetch;
    double now = clock_seconds();
    uint64_t bytes = 0, total = 0;
    bool samples = now - show->sampled >= SAMPLE_EVERY;
    if (say_quiet)
        return;
    for (size_t i = 0; i < show->n; i++) {
        uint64_t has = bytes_of(&f->blobs[i]);
        bytes += has;
        total += f->blobs[i].file->size;
        if (samples)
            sample(&show->files[i], has, now);
        else if (has > show->files[i].bytes)
            show->files[i].bytes = has;
    }
    if (samples) {
        sample(&show->all, bytes, now);
        sample(&show->quantized, show->quantized.bytes, now);
        show->sampled = now;
    } else if (bytes > show->all.bytes) {
        show->all.bytes = bytes;
    }
    if (!show->terminal) {
        tell_files(show);
        tell_all(show, total, now);
    } else if (now - show->begun >= DELAY) {
        draw(show, total);
    }
}

void pull_show_quantized(struct pull_show *show, uint64_t done, uint64_t total)
{
    show->to_quantize = total;
    if (done > show->quantized.bytes)
        show->quantized.bytes = done;
}

void pull_show_close(struct pull_show *show)
{
    if (show == NULL)
        return;
    if (!say_quiet && !show->terminal)
        tell_files(show);
    terminal_erase();
    free(show->files);
    free(show);
}
