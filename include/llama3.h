/* SPDX-License-Identifier: MIT */
/*
 * llama3.h - the public interface of libllama3: Llama 3 models on the machine you have.
 *
 * A model is opened once and shared; a session is one sequence of tokens with its KV pages.
 * The library never prints, never exits and never aborts on input: fallible functions return
 * 0 or -1 (or NULL) and fill a struct llama3_error, which may be NULL if nobody wants to know.
 *
 * Thread-safety: a model may be used by any number of threads at once; a session by one thread
 * at a time, except llama3_cancel(), which may be called from anywhere, signal handlers included.
 * Sessions that wait at the same moment share a pass through the model, and what a session
 * computes never depends on what else is in that pass.
 *
 * Text is UTF-8 and NUL-terminated unless a length is given.
 *
 * Example: examples/simple.c, installed as share/doc/llama3/examples/simple.c, answers a question;
 * README.md says how to compile it.
 */
#ifndef LLAMA3_H
#define LLAMA3_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LLAMA3_API __attribute__((visibility("default")))

struct llama3_model;
struct llama3_session;
struct llama3_history;

/* ---- errors ---------------------------------------------------------------------------- */

enum llama3_code {
    LLAMA3_OK = 0,
    LLAMA3_EINPUT,    /* a file, its weights, an option or a text is not what it has to be */
    LLAMA3_EIO,       /* the operating system refused: open, read, map */
    LLAMA3_ENOMEM,    /* not enough memory */
    LLAMA3_ECONTEXT,  /* the tokens do not fit the context */
    LLAMA3_ECANCELED, /* llama3_cancel() was called */
    LLAMA3_EDEVICE,   /* a device failed, or can't be used */
    LLAMA3_EABSENT    /* a model of the Hugging Face hub is not on this machine, or not all of it;
                         the message has the llama3-pull command that fetches it */
};

struct llama3_error {
    enum llama3_code code;
    char message[512]; /* one line: what was expected and what was found; never a control byte */
};

/* ---- models ---------------------------------------------------------------------------- */

enum llama3_kv_type { LLAMA3_KV_F16 = 0, LLAMA3_KV_F32 };

/* Layers that a GPU computes; any other number is that many. */
enum {
    LLAMA3_GPU_AUTO = 0, /* as many as fit */
    LLAMA3_GPU_ALL = -1, /* an error where they don't fit */
    LLAMA3_GPU_NONE = -2 /* the CPU alone */
};

/* Weights of 4 bits instead of a checkpoint's. */
enum llama3_int4 {
    LLAMA3_INT4_NO = 0,
    LLAMA3_INT4_PLAIN,     /* each matrix for itself, which is fast */
    LLAMA3_INT4_CALIBRATED /* by a text that is built in, as llama3-quantize does: much closer to
                              the checkpoint; takes longer, and memory for a layer in 32 bits and
                              more */
};

/* Zero everywhere is the default. */
struct llama3_model_options {
    const char *template_name; /* NULL: recognised by the checkpoint's template text */
    size_t context;            /* tokens a session may hold; 0: the smaller of the model's limit
                                  and what three quarters of the available memory can hold */
    enum llama3_kv_type kv_type;
    int threads;  /* 1..1024; 0: every core this process may use */
    size_t chunk; /* most rows of one pass, 1..4096; 0: 256, with a GPU 1024 */
    bool no_blas; /* keep to our own kernels, whose answers do not depend on chunk or batch */

    /* The last gpu_layers layers and the head run on a GPU, where the library was built for one;
     * the rest on the CPU, in the same pass. AUTO settles for the CPU where there is no GPU (see
     * gpu_note below), unless another device than 0 is asked for; a number and ALL don't. What has
     * to lie in the GPU's memory is summed up before anything is loaded: weights, activations and
     * the KV of one whole context. Without a context given, it is what fits there beside the
     * layers. */
    int gpu_layers;       /* LLAMA3_GPU_*, or 1..n_layers */
    bool kv_on_host;      /* keys, values and attention stay on the CPU, matrices alone move */
    int device;           /* which GPU, from 0 */
    bool gpu_bf16_prompt; /* long prompts in bf16 by a library: faster, and rounded otherwise */

    /* Weights of more than 4 bits become int4 while the model is opened. That takes a while; the
     * result is kept in the directory `cache`, if it is given, and found there the next time.
     * Calibrated ones that are kept serve for plain ones as well, and making them goes on where it
     * was interrupted. */
    enum llama3_int4 int4;
    const char *cache;
    /* Of total bytes of weights, done are quantized; total 0: not known yet. Non-zero gives up
     * (LLAMA3_ECANCELED). */
    int (*on_progress)(void *arg, uint64_t done, uint64_t total);
    /* One line about what is no failure: that int4 weights are made, and how; a broken file in the
     * cache, made again; weights that have 4 bits already, used as they are; keys of
     * generation_config.json, or of a GGUF file's general.sampling, that would change answers and
     * are not supported. */
    void (*on_note)(void *arg, const char *note);
    /* Of total bytes of weights, done are ready for use: GGUF's 4 to 8 bits are laid out anew, as
     * the processor reads them best. Non-zero gives up as well. */
    int (*on_load)(void *arg, uint64_t done, uint64_t total);
    void *arg; /* of all three; each may be NULL */
};

/* A checkpoint: a Hugging Face directory, a .gguf or .safetensors file, or the name of a model in
 * the local Hugging Face cache: "OWNER/NAME", "OWNER/NAME:int4" (the file that llama3-pull --int4
 * made of it) or "OWNER/NAME:Q4_K_M" (that one of its GGUF files). NULL on failure.
 * llama3_model_close(NULL) does nothing; every session must be closed before. */
LLAMA3_API struct llama3_model *llama3_model_open(const char *path,
                                                  const struct llama3_model_options *options,
                                                  struct llama3_error *err);
LLAMA3_API void llama3_model_close(struct llama3_model *model);

/* A model's files stay mapped while it is open. If another program cuts one of them short, as `cp`
 * over it does, reading what is gone raises SIGBUS, which ends the process. After this call the
 * evaluation that reads it fails instead, with LLAMA3_EIO and a line that names the file, and so do
 * all later ones with that model.
 * It installs a handler for SIGBUS in the whole process, which the library never does by itself.
 * SIGBUS for another reason goes to the handler that was there before. Call it once, before
 * threads are started, and leave SIGBUS unblocked in threads that open models. */
LLAMA3_API int llama3_handle_sigbus(struct llama3_error *err);

/* What one memory, the host's or a GPU's, holds of a model. */
struct llama3_place {
    const char *backend;   /* "cpu (avx512)" */
    const char *device;    /* the GPU's name; NULL: the host's memory */
    size_t n_layers;       /* whose matrices are here: of a GPU the last ones */
    size_t n_kv_layers;    /* whose keys and values are here */
    bool embedding, head;  /* a tied matrix can be in two places, once as each */
    uint64_t weight_bytes; /* as the backend lays them out; of the host, as in the file */
    uint64_t kv_bytes;     /* of one whole context */
    uint64_t work_bytes;   /* activations, and what the backend itself needs */
    uint64_t free_bytes;   /* of a GPU's memory, before anything was loaded */
};

struct llama3_info {
    const char *path;          /* what was opened */
    const char *format;        /* "safetensors", "gguf", "llama3" (llama3-quantize) */
    const char *architecture;  /* "llama" */
    const char *dtype;         /* of most of the weights: "bf16", "q4_1" */
    const char *template_name; /* NULL: the checkpoint has none */
    const char *backend;       /* "cpu (avx512)", or "cpu (avx512) and ..." */
    const char *exactness; /* where answers are bit-identical and where they agree to rounding */
    uint64_t parameters;
    uint64_t file_bytes; /* all parts together */
    uint64_t kv_bytes_per_token;
    size_t kv_page_tokens; /* a sequence takes memory for keys and values in pages of so many */
    const struct llama3_place *places; /* [n_places] in the order of a pass */
    size_t n_places;
    const char *gpu_note; /* why no GPU is used where one could have been; NULL: nothing to say */
    size_t dim, n_layers, n_heads, n_kv_heads, head_dim, ffn_dim, vocab_size;
    size_t context_limit; /* the model's */
    size_t context;       /* this one's */
    int threads;
    const int32_t *stop_ids; /* [n_stop_ids], ascending */
    size_t n_stop_ids;
    bool tied_embeddings;
    bool template_has_date; /* the template writes one: llama3_apply_template()'s counts */
};

/* Valid until the model is closed. */
LLAMA3_API const struct llama3_info *llama3_model_info(const struct llama3_model *model);

/* ---- text and tokens ------------------------------------------------------------------- */

struct llama3_message {
    const char *role; /* "system", "user", "assistant" or "tool" */
    const char *content;
};

/* Tokens in memory that the caller frees with llama3_free(). */

/* Plain text to tokens: never yields a control id, whatever the text says. -1 if the text is not
 * valid UTF-8. with_bos puts the model's BOS in front, where it has one. */
LLAMA3_API int llama3_tokenize(const struct llama3_model *model, const char *text, size_t length,
                               bool with_bos, int32_t **tokens, size_t *n_tokens,
                               struct llama3_error *err);

/* The chat template applied to a conversation, up to and including the header of the assistant's
 * next turn. date: "26 Jul 2024" or NULL for the template's own default; used by 3.1 and later. */
LLAMA3_API int llama3_apply_template(const struct llama3_model *model,
                                     const struct llama3_message *messages, size_t n_messages,
                                     const char *date, int32_t **tokens, size_t *n_tokens,
                                     struct llama3_error *err);

/* Tokens to text, NUL-terminated besides its length; control ids are spelled out by name if
 * with_control, else left out. Incomplete UTF-8 becomes U+FFFD. */
LLAMA3_API int llama3_detokenize(const struct llama3_model *model, const int32_t *tokens,
                                 size_t n_tokens, bool with_control, char **text, size_t *length,
                                 struct llama3_error *err);

LLAMA3_API bool llama3_is_stop(const struct llama3_model *model, int32_t token);
LLAMA3_API void llama3_free(void *memory);

/* The bytes of a token, [*length], which may be a part of a character; of a control token its name,
 * of an id that the vocabulary doesn't have none. Valid until the model is closed. */
LLAMA3_API const char *llama3_token_bytes(const struct llama3_model *model, int32_t token,
                                          size_t *length);

/* Names of the chat templates, NULL-terminated. */
LLAMA3_API const char *const *llama3_template_names(void);

/* ---- sessions -------------------------------------------------------------------------- */

LLAMA3_API struct llama3_session *llama3_session_open(struct llama3_model *model,
                                                      struct llama3_error *err);
LLAMA3_API void llama3_session_close(struct llama3_session *session);

/* A new session that shares the first n tokens (n <= length) and their KV pages. */
LLAMA3_API struct llama3_session *llama3_session_fork(struct llama3_session *session, size_t n,
                                                      struct llama3_error *err);

/* The tokens evaluated so far: [*n], valid until the session is used again. */
LLAMA3_API const int32_t *llama3_session_tokens(const struct llama3_session *session, size_t *n);

/* Forgets all but the first n tokens; n beyond the length does nothing. */
LLAMA3_API void llama3_session_truncate(struct llama3_session *session, size_t n);

/* Appends n >= 1 tokens to the session and evaluates them. logits: NULL, or [n][vocab_size] to
 * receive the logits after each of them. On failure the session is as it was before. Logits that
 * are not finite come from damaged weights, and are LLAMA3_EINPUT here and in what follows.
 * LLAMA3_EDEVICE ends the session, and those that shared the pass: whatever is evaluated in it
 * later fails with the same line. New sessions may work, if the device does again. */
LLAMA3_API int llama3_eval(struct llama3_session *session, const int32_t *tokens, size_t n,
                           float *logits, struct llama3_error *err);

/* Logits after the last token evaluated, [vocab_size]; NULL before the first and after a
 * truncation. Valid until the session is used again. */
LLAMA3_API const float *llama3_logits(const struct llama3_session *session);

/* Ends the evaluation or generation that runs in this session, now or as soon as one starts;
 * that call returns LLAMA3_ECANCELED (generation: the result says LLAMA3_FINISH_CANCELED).
 * Thread-safe and async-signal-safe. */
LLAMA3_API void llama3_cancel(struct llama3_session *session);

/* Bytes of KV that all sessions of a model hold now; pages that are shared count once. */
LLAMA3_API uint64_t llama3_kv_bytes(const struct llama3_model *model);

/* ---- generation ------------------------------------------------------------------------ */

struct llama3_bias {
    int32_t token;
    float bias; /* -100..100, added to the token's logit */
};

/* Applied in this order: biases, penalties, temperature, top-k, top-p, min-p; ties go to the lower
 * id. */
struct llama3_sampling {
    float temperature;              /* 0..100; 0 is greedy */
    float top_p;                    /* (0..1]; 1 is off */
    float min_p;                    /* [0..1]; 0 is off, 1 leaves the likeliest alone */
    int top_k;                      /* 0 is off */
    float repeat_penalty;           /* (0..100]; 1 is off; over prompt and answer, as in CTRL
                                       (Keskar et al. 2019, section 4.1) */
    float frequency_penalty;        /* -100..100; 0 is off; per occurrence in the answer */
    float presence_penalty;         /* -100..100; 0 is off; once per token of the answer */
    uint64_t seed;                  /* randomness is a function of (seed, position) alone */
    const struct llama3_bias *bias; /* [n_bias]; NULL if there are none */
    size_t n_bias;
};

/* The checkpoint's own defaults (generation_config.json, beside a GGUF file as well; else the
 * general.sampling keys of that file), else temperature 0.6 and top-p 0.9; seed 0. */
LLAMA3_API void llama3_sampling_defaults(const struct llama3_model *model,
                                         struct llama3_sampling *sampling);

struct llama3_generation {
    struct llama3_sampling sampling;
    size_t max_tokens;       /* 0: 4096; in any case no more than the context holds */
    const char *const *stop; /* [n_stop]: the answer ends before the first of these strings */
    size_t n_stop;
    /* Text as it comes, whole UTF-8 characters; non-zero ends the generation. May be NULL. */
    int (*on_text)(void *arg, const char *text, size_t length);
    /* Each token as it is drawn, before its text and before it is evaluated, the stop id included;
     * non-zero ends the generation without it. logits: [vocab_size] as the model said them, without
     * biases and penalties. The session may be forked here, and is then complete up to the token.
     * May be NULL. */
    int (*on_token)(void *arg, int32_t token, const float *logits);
    /* While the prompt is read: of total tokens, done are evaluated (cached ones included). */
    void (*on_prompt)(void *arg, size_t done, size_t total);
    void *arg;
};

enum llama3_finish {
    LLAMA3_FINISH_STOP = 0, /* a stop id, a stop string, or a callback said so */
    LLAMA3_FINISH_LENGTH,   /* max_tokens, or the context is full */
    LLAMA3_FINISH_CANCELED
};

struct llama3_result {
    enum llama3_finish finish;
    int32_t stop_id;      /* the stop id that ended it, or -1 */
    size_t prompt_tokens; /* all of the prompt */
    size_t cached_tokens; /* of these, already in the session */
    size_t answer_tokens; /* tokens generated, the stop id not counted */
    double prompt_seconds, answer_seconds;
};

/* Makes the session hold exactly these n >= 1 prompt tokens (whatever it shares with them from
 * the front is kept, the rest is evaluated), then generates. result may be NULL. A prompt that
 * does not fit the context is LLAMA3_ECONTEXT, with both counts. */
LLAMA3_API int llama3_generate(struct llama3_session *session, const int32_t *prompt, size_t n,
                               const struct llama3_generation *generation,
                               struct llama3_result *result, struct llama3_error *err);

/* ---- conversations --------------------------------------------------------------------- */

LLAMA3_API struct llama3_history *llama3_history_new(void); /* NULL: no memory */
LLAMA3_API void llama3_history_free(struct llama3_history *history);
LLAMA3_API int llama3_history_add(struct llama3_history *history, const char *role,
                                  const char *content, struct llama3_error *err);
/* [*n], valid until the history is used again. */
LLAMA3_API const struct llama3_message *llama3_history_messages(
    const struct llama3_history *history, size_t *n);
/* Keeps the first n messages. */
LLAMA3_API void llama3_history_truncate(struct llama3_history *history, size_t n);

/* The answer to a query after a history, which is extended by both; it belongs to the history.
 * max_tokens as above; temperature and top_p < 0: the checkpoint's defaults. NULL on failure,
 * with the history as it was. */
LLAMA3_API const char *llama3_get_response(struct llama3_session *session,
                                           struct llama3_history *history, const char *query,
                                           size_t max_tokens, float temperature, float top_p,
                                           struct llama3_error *err);

LLAMA3_API const char *llama3_version(void);

#ifdef __cplusplus
}
#endif
#endif
