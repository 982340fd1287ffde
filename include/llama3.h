/* SPDX-License-Identifier: MIT */
/*
 * llama3.h - the public interface of libllama3: Llama 3 models on the machine you have.
 *
 * A model is opened once and shared; a session is one sequence of tokens with its KV pages.
 *
 *     struct llama3_error err = {.size = sizeof err};
 *     struct llama3_model *model = llama3_model_open("model.gguf", NULL, &err);
 *     struct llama3_session *session = llama3_session_open(model, &err);
 *     struct llama3_history *history = llama3_history_new();
 *     puts(llama3_session_respond(session, history, "What is the capital of France?", NULL, &err));
 *
 * examples/ has whole programs with their errors handled: simple.c, chat.c, batch.c and
 * python/llama3.py. README.md says how to compile them. llama3(3) is this text as a manual page.
 *
 * Structs. Every struct that the caller allocates begins with its size: set it to sizeof, and leave
 * zero what you don't need, for zero is the default everywhere. So a program that was compiled with
 * an older header runs with a newer library. A field that is set and that the library is too old to
 * know is an error (LLAMA3_EINPUT). Structs that the library allocates may get more fields at their
 * end; they are reached by pointers, never by indexing an array of structs.
 *
 * Errors. The library never prints, never exits and never aborts on input. Fallible functions
 * return 0 or -1 (or NULL) and fill a struct llama3_error, which may be NULL if nobody wants to
 * know. Every function may fail with LLAMA3_ENOMEM; what else can happen is said with it.
 *
 * Threads. A model may be used by any number of threads at once. A session, a history, a sampling
 * and a detokenizer belong to one thread at a time, but for llama3_session_cancel(). Sessions that
 * wait at the same moment share a pass through the model. What a session computes doesn't depend on
 * what else is in that pass, but for rounding where llama3_info's exactness says so: OpenBLAS
 * computes prompts of f32 and f16 weights, unless no_blas is set. After a fork() the parent alone
 * may use its models and what belongs to them; evaluating in the child is an error (LLAMA3_EINPUT),
 * and closing them there keeps their memory.
 *
 * Callbacks are called on the thread that called the function, before it returns. Inside one, any
 * function may be called on other objects and on the model, and those that are named with the
 * callback on the object itself. The others fail with LLAMA3_EINPUT on a session or a history that
 * is in use, and truncating one does nothing; but closing an object in its own callback is
 * undefined.
 *
 * Text is UTF-8, and NUL-terminated unless a length is given.
 */
#ifndef LLAMA3_H
#define LLAMA3_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of this header; llama3_version() tells the library's. */
#define LLAMA3_VERSION_MAJOR 0
#define LLAMA3_VERSION_MINOR 1
#define LLAMA3_VERSION_PATCH 0
#define LLAMA3_VERSION_NUMBER \
    (LLAMA3_VERSION_MAJOR * 1000000 + LLAMA3_VERSION_MINOR * 1000 + LLAMA3_VERSION_PATCH)

#define LLAMA3_API __attribute__((visibility("default")))

struct llama3_model;
struct llama3_session;
struct llama3_sampling;
struct llama3_detokenizer;
struct llama3_history;
struct llama3_constraint;
struct llama3_matcher;

/* "0.1.0" */
LLAMA3_API const char *llama3_version(void);

/* Frees memory that a function handed over; NULL does nothing. */
LLAMA3_API void llama3_free(void *memory);

/* ---- errors ---------------------------------------------------------------------------- */

enum llama3_code {
    LLAMA3_OK = 0,
    LLAMA3_EINPUT,    /* a file, its weights, an argument or a text is not what it has to be */
    LLAMA3_EIO,       /* the operating system refused: open, read, write, map */
    LLAMA3_ENOMEM,    /* not enough memory */
    LLAMA3_ECONTEXT,  /* the tokens do not fit the context */
    LLAMA3_ECANCELED, /* llama3_session_cancel() was called, or a callback gave up */
    LLAMA3_EDEVICE,   /* a device failed, or can't be used */
    LLAMA3_EABSENT    /* a model of the Hugging Face hub is not on this machine, or not all of it;
                         the message has the llama3-pull command that fetches it */
};

struct llama3_error {
    size_t size; /* for later versions: the fields of 0.1 are filled in whatever it says */
    enum llama3_code code;
    char message[512]; /* one line: what was expected and what was found; no control characters */
};

/* ---- models ---------------------------------------------------------------------------- */

/* What keys and values are kept as. */
enum llama3_kv_type {
    LLAMA3_KV_AUTO = 0, /* INT8 where they are in the host's memory alone; F16 with a GPU's */
    LLAMA3_KV_F16,
    LLAMA3_KV_F32,
    LLAMA3_KV_INT8, /* 8 bits, and a scale for each head and position; not on a GPU */
    LLAMA3_KV_INT4  /* keys as with INT8, values in 4 bits; not on a GPU */
};

/* Layers that a GPU computes; any other number is that many. */
enum {
    LLAMA3_GPU_AUTO = 0, /* as many as fit */
    LLAMA3_GPU_ALL = -1, /* an error where they don't fit */
    LLAMA3_GPU_NONE = -2 /* the CPU alone */
};

/* What happens to weights that can be used where their file is mapped. Results are the same. */
enum llama3_load {
    LLAMA3_LOAD_AUTO = 0, /* as MAP; what turns out to be mapped in small pages, which are slower to
                             read, is copied to memory of this process between passes: unless other
                             processes have it mapped too, or copies and one whole context need
                             more than three quarters of the available memory */
    LLAMA3_LOAD_MAP,      /* they stay where they are: processes share them, and the system can take
                             their memory back. They are read ahead of the first pass, in huge pages
                             where the file system has such */
    LLAMA3_LOAD_READ      /* they are copied while the model is opened; without the memory for that
                             they are mapped, with a note */
};

/* Weights of 4 bits instead of a checkpoint's. */
enum llama3_int4 {
    LLAMA3_INT4_NO = 0,
    LLAMA3_INT4_PLAIN,     /* each matrix for itself, which is fast */
    LLAMA3_INT4_CALIBRATED /* by a text that is built in, as llama3-quantize does: much closer to
                              the checkpoint; takes longer, and memory for a layer in 32 bits and
                              more */
};

/* A low-rank adapter (LoRA): what fine-tuning added to a model's matrices. */
struct llama3_adapter {
    size_t size;
    const char *path; /* a folder as PEFT writes it (adapter_config.json,
                         adapter_model.safetensors), or a .gguf file of llama.cpp's converter */
    const char *name; /* NULL: the path's last name, without ".gguf"; with adapters_vary no two may
                         have the same */
    double scale;     /* of what it adds, -1000..1000; 0: 1 */
};

struct llama3_model_options {
    size_t size;
    const char *template_name; /* one of the checkpoint's chat templates, as "tool_use"; or else
                                  what template_text is called, or one of llama3_template_names();
                                  NULL: the checkpoint's own */
    size_t context;            /* tokens a session may hold; 0: the smaller of the model's limit
                                  and what three quarters of the available memory can hold */
    enum llama3_kv_type kv_type;
    int threads;     /* 1..1024; 0: every core this process may use */
    size_t chunk;    /* most rows of one pass, 1..4096; 0: 256, with a GPU 1024 */
    bool no_blas;    /* keep to our own kernels, whose answers do not depend on chunk or batch */
    bool vocab_only; /* tokenizer and template alone: no weights are read, no session can be
                        opened, and the options that follow have no effect */

    /* The last gpu_layers layers and the head run on a GPU, where the library was built for one;
     * the rest on the CPU, in the same pass. AUTO settles for the CPU where there is no GPU (see
     * gpu_note below), unless another device than 0 is asked for; a number and ALL fail. What has
     * to lie in the GPU's memory is summed up before anything is loaded: weights, activations and
     * the KV of one whole context. Without a context given, it is what fits there beside the
     * layers. */
    int gpu_layers;       /* LLAMA3_GPU_*, or 1..n_layers */
    bool kv_on_host;      /* keys, values and attention stay on the CPU, matrices alone move */
    int device;           /* which GPU, from 0 */
    bool gpu_bf16_prompt; /* long prompts in bf16 by cuBLAS: faster, and rounded differently */

    /* Weights of more than 4 bits become int4 while the model is opened. That takes a while; the
     * result is kept in the directory `cache`, if it is given, and found there the next time. The
     * directory and its parents are made if they are missing.
     * Calibrated ones that are kept serve for plain ones as well, and making them goes on where it
     * was interrupted. */
    enum llama3_int4 int4;
    const char *cache;

    /* Callbacks; each may be NULL. The model that is being opened doesn't exist yet. */
    /* Of total bytes of weights, done are quantized; total 0: not known yet. Non-zero gives up
     * (LLAMA3_ECANCELED). */
    int (*on_progress)(void *arg, uint64_t done, uint64_t total);
    /* One line about what is no failure: that int4 weights are made, and how; a broken file in the
     * cache, made again; weights that have 4 bits already, used as they are; keys of
     * generation_config.json, or of a GGUF file's general.sampling, that would change answers and
     * are not supported; a chat template left out for its name; scales of activations, keys and
     * values that a quantized checkpoint has and that are not used. */
    void (*on_note)(void *arg, const char *note);
    /* Of total bytes of weights, done are ready for use: GGUF's 4 to 8 bits are laid out anew, as
     * the processor reads them best. Non-zero gives up as well. */
    int (*on_load)(void *arg, uint64_t done, uint64_t total);
    void *arg; /* of all three */

    const char *template_text; /* a chat template, instead of the checkpoint's; NULL: none */

    /* Adapters, for every session: what they add is summed. Weights of 32 or 16 bits get it once,
     * in a copy of these matrices in memory; beside others it is computed in each pass, so that
     * they stay as they are. With adapters_vary it always is, and a session may choose
     * (llama3_session_adapt()); sessions with different adapters share passes. */
    const struct llama3_adapter *adapters; /* [n_adapters], at most 32, all of one size */
    size_t n_adapters;
    bool adapters_vary;

    enum llama3_load load;
    /* On a machine with several memory nodes, as those of two processors are, threads are spread
     * over them and each has its part of weights, keys and values in its own memory: it is moved
     * there while the model is opened, which reads all weights. no_numa: it lies where Linux puts
     * it. */
    bool no_numa;
};

/* Opens a checkpoint: a Hugging Face directory, a .gguf or .safetensors file, or the name of a
 * model in the local Hugging Face cache: "OWNER/NAME", "OWNER/NAME:int4" (the file that
 * llama3-pull --int4 made of it) or "OWNER/NAME:Q4_K_M" (that one of its GGUF files). options may
 * be NULL. Fails with any code but LLAMA3_ECONTEXT. */
LLAMA3_API struct llama3_model *llama3_model_open(const char *path,
                                                  const struct llama3_model_options *options,
                                                  struct llama3_error *err);
/* Every object of the model must be closed before. NULL does nothing. */
LLAMA3_API void llama3_model_close(struct llama3_model *model);

/* Whether the config.json in a folder is that of a model that can be opened, so that its weights
 * are fetched only then. LLAMA3_EINPUT names what is not supported; LLAMA3_EIO. */
LLAMA3_API int llama3_check_config(const char *folder, struct llama3_error *err);

/* A model's files stay mapped while it is open. If another program cuts one of them short, as `cp`
 * over it does, reading what is gone raises SIGBUS, which ends the process. After this call the
 * evaluation that reads it fails instead, with LLAMA3_EIO and a line that names the file, and so do
 * all later ones with that model.
 * It installs a handler for SIGBUS in the whole process, which the library never does by itself.
 * SIGBUS for another reason goes to the handler that was there before. Call it once, before
 * threads are started, and leave SIGBUS unblocked in threads that open models. LLAMA3_EIO. */
LLAMA3_API int llama3_handle_sigbus(struct llama3_error *err);

/* What one memory, the host's or a GPU's, holds of a model. */
struct llama3_memory {
    const char *backend;   /* "cpu (avx512)" */
    const char *device;    /* the GPU's name; NULL: the host's memory */
    size_t n_layers;       /* whose matrices are here: of a GPU the last ones */
    size_t n_kv_layers;    /* whose keys and values are here */
    bool embedding, head;  /* a tied matrix can be in two memories, once as each */
    uint64_t weight_bytes; /* as the backend lays them out; of the host, as in the file */
    uint64_t kv_bytes;     /* of one whole context */
    uint64_t work_bytes;   /* activations, and what the backend itself needs */
    uint64_t free_bytes;   /* of a GPU's memory, before anything was loaded */
};

/* An adapter as it was opened. */
struct llama3_adapter_info {
    const char *name, *path;
    double scale;
    size_t rank; /* the largest of its matrices */
    uint64_t parameters;
};

struct llama3_info {
    const char *path;          /* what was opened */
    const char *format;        /* "safetensors", "gguf", "llama3" (llama3-quantize) */
    const char *architecture;  /* "llama" */
    const char *dtype;         /* of most of the weights: "bf16", "q4_1" */
    const char *template_name; /* "llama3.1" where it is one that is widely used, or "custom";
                                  "broken": it is no Jinja; NULL: the checkpoint has no default
                                  one */
    const char *backend;       /* "cpu (avx512)", "cpu (avx512, 2 memory nodes)", or "cpu (avx512)
                                  and ..."; NULL: vocab_only */
    const char *exactness; /* where answers are bit-identical and where they agree to rounding */
    uint64_t parameters;
    uint64_t file_bytes; /* all files together */
    uint64_t kv_bytes_per_token;
    size_t kv_page_tokens; /* a sequence takes memory for keys and values in pages of so many */
    const struct llama3_memory *const *memories; /* [n_memories] in the order of a pass */
    size_t n_memories;
    const char *gpu_note; /* why no GPU is used where one could have been; NULL: nothing to say */
    size_t dim, n_layers, n_heads, n_kv_heads, head_dim, ffn_dim, vocab_size;
    size_t context_limit; /* the model's */
    size_t context;       /* this one's */
    int threads;
    const int32_t *stop_ids; /* [n_stop_ids], ascending */
    size_t n_stop_ids;
    bool tied_embeddings;
    bool template_has_date; /* the template writes one: that of llama3_template_options counts */
    bool thinks;            /* the template knows <think>: answers may begin with thoughts */
    const struct llama3_adapter_info *const *adapters; /* [n_adapters] in the order given */
    size_t n_adapters;
    uint64_t merged_bytes;             /* of copies of weights to which adapters were added */
    const char *const *template_names; /* [n_template_names] of the checkpoint's own, which
                                          template_name of the options may choose */
    size_t n_template_names;
    enum llama3_kv_type kv_type; /* of keys and values: what AUTO came to */
};

/* Valid until the model is closed. */
LLAMA3_API const struct llama3_info *llama3_model_info(const struct llama3_model *model);

/* Whether a path is one of the model's files, by whatever name, so that writing there would destroy
 * the model. */
LLAMA3_API bool llama3_model_has_file(const struct llama3_model *model, const char *path);

/* Bytes of KV that all sessions of a model, and its prefix cache, hold now; pages that are shared
 * count once. */
LLAMA3_API uint64_t llama3_model_kv_bytes(const struct llama3_model *model);
/* Bytes of weights that were copied from mapped files to memory of this process so far
 * (llama3_model_options.load); those that are laid out anew, as GGUF's, don't count. */
LLAMA3_API uint64_t llama3_model_copied_bytes(const struct llama3_model *model);

/* The prefix cache: keys and values of sessions that were closed, or set to other tokens, for
 * prompts that begin with the same tokens: llama3_session_set() and what stands on it (generate,
 * respond) read only what is new, to the same bits. It holds pages while all KV, that of open
 * sessions included, takes at most so many bytes; those that were used least recently go first. It
 * also gives way before a session finds no memory. 0, as a model begins: none; what was held is
 * freed. */
LLAMA3_API void llama3_model_keep_prefixes(struct llama3_model *model, uint64_t bytes);
/* Bytes that it holds, pages that sessions share with it included. */
LLAMA3_API uint64_t llama3_model_prefix_bytes(const struct llama3_model *model);

/* Where later runs find what this one has read. */
struct llama3_prefix_store {
    size_t size;
    const char *directory; /* made with its parents if it is missing, and closed to other users */
    uint64_t bytes;        /* that its files may take; 0: 2 GiB */
    /* One line about what is no failure: a file that was damaged, or another than its name says,
     * and has been removed; a directory where nothing more can be written. Called at the end of
     * llama3_session_set() before tokens are evaluated, of what stands on it, and of
     * llama3_model_close(). May be NULL. */
    void (*on_note)(void *arg, const char *note);
    void *arg;
};

/* Keeps keys and values in files as well, in pages of kv_page_tokens, for prompts of this run and
 * of later ones that begin with the same tokens: llama3_session_set() and what stands on it find
 * them where neither the session nor the prefix cache has them. What is computed from them is bit
 * for bit what it would be without, where llama3_info's exactness promises that of prompts. Each
 * page is of one model, build of the library, instruction set and placement, KV type, mix of
 * adapters and of all tokens up to its end. A thread writes them beside the passes, and for at most
 * half a second in llama3_model_close(); what is read is mapped, and checked. Files that were used
 * least recently go first. Several programs may use a directory. Once for a model, before its
 * sessions evaluate anything; after llama3_handle_sigbus() if other programs might cut files short.
 * LLAMA3_EINPUT for a directory of another user; LLAMA3_EIO. */
LLAMA3_API int llama3_model_keep_prefixes_in(struct llama3_model *model,
                                             const struct llama3_prefix_store *store,
                                             struct llama3_error *err);

/* ---- text and tokens ------------------------------------------------------------------- */

/* Plain text to tokens: never yields a control id, whatever the text says; words that a checkpoint
 * added without making them special are found. with_bos puts the model's BOS in front, where it has
 * one. Bytes for which the vocabulary has no token are left out, as in the reference.
 * *tokens: [*n_tokens], for llama3_free(). LLAMA3_EINPUT if the text is not valid UTF-8. */
LLAMA3_API int llama3_tokenize(const struct llama3_model *model, const char *text, size_t length,
                               bool with_bos, int32_t **tokens, size_t *n_tokens,
                               struct llama3_error *err);

/* The same without BOS for a text of the caller's own, in which names of control tokens, as
 * "<|eot_id|>", stand for these tokens: where the `tokenizers` package finds them. Never for a text
 * that somebody else may have written, who could forge a turn. */
LLAMA3_API int llama3_tokenize_trusted(const struct llama3_model *model, const char *text,
                                       size_t length, int32_t **tokens, size_t *n_tokens,
                                       struct llama3_error *err);

/* The length in bytes of the pre-token that text[0..length) begins with, which no token reaches
 * beyond; 0 at the end. Of text that is not valid UTF-8 it may end inside a character. */
LLAMA3_API size_t llama3_pretoken(const struct llama3_model *model, const char *text,
                                  size_t length);

/* Tokens to text, [*length] and a NUL, for llama3_free(). Control ids are spelled out by name if
 * with_control, else left out. Incomplete UTF-8 becomes U+FFFD. An id outside the
 * vocabulary has no text, and is no error. A SentencePiece vocabulary puts a blank before each
 * text, and so the first one is left out: to go on with a text, decode its tokens as well. */
LLAMA3_API int llama3_detokenize(const struct llama3_model *model, const int32_t *tokens,
                                 size_t n_tokens, bool with_control, char **text, size_t *length,
                                 struct llama3_error *err);

/* The same token by token, for text that is shown while it is generated. */
LLAMA3_API struct llama3_detokenizer *llama3_detokenizer_open(const struct llama3_model *model,
                                                              bool with_control,
                                                              struct llama3_error *err);
LLAMA3_API void llama3_detokenizer_close(struct llama3_detokenizer *detokenizer);
/* The whole characters that are complete with this token: [*length] and a NUL, valid until the next
 * call; often none. NULL on failure. */
LLAMA3_API const char *llama3_detokenizer_next(struct llama3_detokenizer *detokenizer,
                                               int32_t token, size_t *length,
                                               struct llama3_error *err);
/* The end of the text: what began a character and never became one, as U+FFFD. The next token
 * begins another text. */
LLAMA3_API const char *llama3_detokenizer_finish(struct llama3_detokenizer *detokenizer,
                                                 size_t *length, struct llama3_error *err);

/* The bytes of a token, [*length], which may be a part of a character. A control token has its
 * name, an id outside the vocabulary no bytes. Valid until the model is closed. */
LLAMA3_API const char *llama3_token_bytes(const struct llama3_model *model, int32_t token,
                                          size_t *length);
LLAMA3_API bool llama3_token_is_control(const struct llama3_model *model, int32_t token);
/* Whether it ends an answer. */
LLAMA3_API bool llama3_token_is_stop(const struct llama3_model *model, int32_t token);

/* ---- conversations --------------------------------------------------------------------- */

struct llama3_message {
    size_t size;      /* of each element of an array the same: the next one lies there */
    const char *role; /* "system", "user", "assistant" or "tool", or what else the template knows */
    const char *content;
    const char *json; /* NULL, or an object with other fields of the message, as the template knows
                         them: "tool_calls", "reasoning_content"; its "content" comes before the
                         one above, such as a list of parts; no "role" */
};

struct llama3_template_options {
    size_t size;
    const char *date;   /* "26 Jul 2024"; NULL: the template's own default, or today */
    bool no_header;     /* end with the last message, without the header of the assistant's turn */
    bool continue_last; /* the last message is the assistant's, and its turn stays open: the answer
                           goes on with it */
    /* JSON, each NULL or as the template knows it. */
    const char *tools;     /* an array of functions, as in the OpenAI API: a template that doesn't
                              write them has them told in the system's message */
    const char *documents; /* an array */
    const char *arguments; /* an object of more variables, such as {"enable_thinking": false}; none
                              that is set otherwise: "messages", "add_generation_prompt", and
                              "date_string", "tools" and "documents" if they are given above */
    size_t memory;         /* bytes that the template may take beside these; 0: 256 MiB */
};

/* The chat template applied to n_messages >= 1 messages, up to and including the header of the
 * assistant's next turn unless options (or NULL) say otherwise. *tokens: [*n_tokens], for
 * llama3_free(). LLAMA3_EINPUT for what the template refuses or can't do, a date that is none, text
 * that is not UTF-8, and a model without a template. Errors number messages from 1. */
LLAMA3_API int llama3_apply_template(const struct llama3_model *model,
                                     const struct llama3_message *messages, size_t n_messages,
                                     const struct llama3_template_options *options,
                                     int32_t **tokens, size_t *n_tokens, struct llama3_error *err);

/* Whether the chat template, or the one for tools, mentions a variable or function of this name: a
 * variable that it doesn't mention changes nothing. */
LLAMA3_API bool llama3_template_mentions(const struct llama3_model *model, const char *name);

/* Names of chat templates that are built in, for checkpoints without one, NULL-terminated. */
LLAMA3_API const char *const *llama3_template_names(void);

/* Messages with copies of their texts. */
LLAMA3_API struct llama3_history *llama3_history_new(void); /* NULL: no memory */
LLAMA3_API void llama3_history_free(struct llama3_history *history);
/* LLAMA3_EINPUT, with the history as it was, for a role or content that is NULL, a role that is not
 * printable ASCII, and content that is not UTF-8. */
LLAMA3_API int llama3_history_add(struct llama3_history *history, const char *role,
                                  const char *content, struct llama3_error *err);
LLAMA3_API size_t llama3_history_length(const struct llama3_history *history);
/* Message i, valid until the history is used again; NULL from the length on. Message 0 begins an
 * array, as llama3_apply_template() takes it. */
LLAMA3_API const struct llama3_message *llama3_history_message(const struct llama3_history *history,
                                                               size_t i);
/* Keeps the first n messages. */
LLAMA3_API void llama3_history_truncate(struct llama3_history *history, size_t n);
/* A history from a file of llama3 --session or the server's chat page (llama3(1), "Sessions"), its
 * system prompt first. NULL on failure: LLAMA3_EINPUT for what is no such file. */
LLAMA3_API struct llama3_history *llama3_history_load(const char *path, struct llama3_error *err);
/* Writes such a file, whole or not at all: one message of system or none, then user and assistant
 * by turns, or else LLAMA3_EINPUT. A conversation that is there is replaced, but for its title,
 * model and settings; any other file is left as it is, with LLAMA3_EINPUT. */
LLAMA3_API int llama3_history_save(const struct llama3_history *history, const char *path,
                                   struct llama3_error *err);

/* ---- sessions -------------------------------------------------------------------------- */

/* LLAMA3_EDEVICE, and LLAMA3_EINPUT for a model that was opened with vocab_only. */
LLAMA3_API struct llama3_session *llama3_session_open(struct llama3_model *model,
                                                      struct llama3_error *err);
LLAMA3_API void llama3_session_close(struct llama3_session *session); /* NULL does nothing */

/* A new session that shares the first n tokens (n <= length) and their KV pages. */
LLAMA3_API struct llama3_session *llama3_session_fork(struct llama3_session *session, size_t n,
                                                      struct llama3_error *err);

/* Whose prefixes it shares by the prefix cache: sessions of different owners share none, so that
 * neither counts nor times tell one what another has read. A session begins with owner 0, and a
 * fork with the other session's. With too little memory the owner that has most loses pages first.
 * LLAMA3_EINPUT in a session that has tokens. */
LLAMA3_API int llama3_session_owner(struct llama3_session *session, int owner,
                                    struct llama3_error *err);
/* What the session's owner is known by in later runs, such as an API key, [n] bytes: in the files
 * of llama3_model_keep_prefixes_in() it finds what sessions with the same key have left, and no
 * other. The files have a digest of it. Without one, owner 0 has files of its own, and of other
 * owners nothing is kept. LLAMA3_EINPUT without a byte, and in a session that has tokens. */
LLAMA3_API int llama3_session_owner_key(struct llama3_session *session, const void *key, size_t n,
                                        struct llama3_error *err);

/* The tokens evaluated so far: [*n], valid until the session is used again. */
LLAMA3_API const int32_t *llama3_session_tokens(const struct llama3_session *session, size_t *n);

/* The scale of one of the model's adapters in this session, or of all with name NULL: -1000..1000,
 * 0 without it. A session begins with the scales that the model was opened with, and a fork with
 * those of the other session. LLAMA3_EINPUT for a name that no adapter has, in a session that has
 * tokens, and without adapters_vary. */
LLAMA3_API int llama3_session_adapt(struct llama3_session *session, const char *name, double scale,
                                    struct llama3_error *err);
/* The scales: [*n], in the order of llama3_info's adapters. */
LLAMA3_API const float *llama3_session_scales(const struct llama3_session *session, size_t *n);

/* Forgets all but the first n tokens; n beyond the length does nothing. */
LLAMA3_API void llama3_session_truncate(struct llama3_session *session, size_t n);

/* Appends n >= 1 tokens to the session and evaluates them. logits: [n_logits][vocab_size], the
 * logits after each of the last n_logits <= n tokens; NULL if n_logits is 0. On failure the session
 * is as it was before. LLAMA3_ECONTEXT; LLAMA3_EINPUT for a token that the vocabulary doesn't have,
 * and for logits that are not finite, which come from damaged weights, here and in what follows;
 * LLAMA3_ECANCELED; LLAMA3_EIO (see llama3_handle_sigbus()).
 * LLAMA3_EDEVICE ends the session, and those that shared the pass: whatever is evaluated in it
 * later fails with the same line. New sessions may work, if the device does again. */
LLAMA3_API int llama3_session_eval(struct llama3_session *session, const int32_t *tokens, size_t n,
                                   size_t n_logits, float *logits, struct llama3_error *err);

/* Makes the session hold exactly these n >= 1 tokens, with logits after the last: what it, or the
 * prefix cache, shares with them from the front is kept, the rest is evaluated. *cached (or NULL):
 * how many were kept. on_prompt (or NULL): of total tokens, done are evaluated, cached ones
 * included; inside, the session may be canceled and nothing else. Fails like llama3_session_eval();
 * a failure while tokens are evaluated leaves those that were kept, and any other leaves the
 * session as it was. */
LLAMA3_API int llama3_session_set(struct llama3_session *session, const int32_t *tokens, size_t n,
                                  void (*on_prompt)(void *arg, size_t done, size_t total),
                                  void *arg, size_t *cached, struct llama3_error *err);

/* The same without evaluating: the session then holds the first *cached of these tokens, and has
 * forgotten others. All n are held only if their logits are. LLAMA3_ECONTEXT, LLAMA3_EINPUT,
 * LLAMA3_EDEVICE. */
LLAMA3_API int llama3_session_adopt(struct llama3_session *session, const int32_t *tokens, size_t n,
                                    size_t *cached, struct llama3_error *err);

/* Logits after the last token evaluated, [vocab_size]; NULL before the first and after a
 * truncation. Valid until the session is used again. */
LLAMA3_API const float *llama3_session_logits(const struct llama3_session *session);

/* Ends the call that runs in this session, or, if none runs or it has ended before it noticed, the
 * next one: llama3_session_eval(), _set() and llama3_next() return LLAMA3_ECANCELED, and of a
 * generation the result says LLAMA3_FINISH_CANCELED. The first call that says so takes the
 * cancellation away. May be called from any thread, and from signal handlers. */
LLAMA3_API void llama3_session_cancel(struct llama3_session *session);

/* Writes the session's tokens, keys, values and last logits to a file that is whole or not there.
 * It has a digest of all of it, and says which model, build of the library, instruction set,
 * devices and KV type it is of. LLAMA3_EIO, LLAMA3_EDEVICE. */
LLAMA3_API int llama3_session_save(struct llama3_session *session, const char *path,
                                   struct llama3_error *err);
/* A session as it was saved: what is computed in it from here on is bit for bit the same.
 * LLAMA3_EINPUT for a file of another model, build, instruction set, placement on devices or KV
 * type, and for one that is damaged; LLAMA3_ECONTEXT; LLAMA3_EIO, also for what is no regular
 * file. */
LLAMA3_API struct llama3_session *llama3_session_load(struct llama3_model *model, const char *path,
                                                      struct llama3_error *err);

/* ---- sampling -------------------------------------------------------------------------- */

/* How tokens are drawn from logits. Applied in this order: mask, biases, penalties, temperature,
 * top-k, top-p, min-p; ties go to the lower id. Settings by name:
 *
 *     temperature        0..100; 0 is greedy
 *     top_p              above 0, up to 1; 1 is off
 *     min_p              0..1; 0 is off, 1 leaves the likeliest alone
 *     top_k              0..1048576; 0 is off
 *     repeat_penalty     above 0, up to 100; 1 is off; over prompt and answer, as in CTRL
 *                        (Keskar et al. 2019, section 4.1)
 *     frequency_penalty  -100..100; 0 is off; per occurrence in the answer
 *     presence_penalty   -100..100; 0 is off; once per token of the answer
 *     seed               0..18446744073709551615; randomness is a function of (seed, position)
 *
 * They begin as the checkpoint says (generation_config.json, beside a GGUF file as well, by the
 * path that was opened even if that is a symbolic link; else the general.sampling keys of that
 * file), else with temperature 0.6 and top_p 0.9; the seed with 0. */

/* Of a model, for it and for others with as many tokens. model NULL: one that can check settings
 * before a model is opened, and can't draw. */
LLAMA3_API struct llama3_sampling *llama3_sampling_open(const struct llama3_model *model,
                                                        struct llama3_error *err);
/* The same settings, biases and mask, with no tokens seen yet. */
LLAMA3_API struct llama3_sampling *llama3_sampling_copy(const struct llama3_sampling *sampling,
                                                        struct llama3_error *err);
LLAMA3_API void llama3_sampling_close(struct llama3_sampling *sampling);

/* The value is a decimal number with a point, whatever the locale. LLAMA3_EINPUT for an unknown
 * name, and for a value that is no number or out of range, which leaves the setting as it was. */
LLAMA3_API int llama3_sampling_set(struct llama3_sampling *sampling, const char *name,
                                   const char *value, struct llama3_error *err);
/* The value as llama3_sampling_set() takes it. text: at least 32 bytes. */
LLAMA3_API int llama3_sampling_get(const struct llama3_sampling *sampling, const char *name,
                                   char *text, size_t size, struct llama3_error *err);
/* Names of the settings, NULL-terminated. */
LLAMA3_API const char *const *llama3_sampling_names(void);

/* Adds bias, -100..100, to a token's logit from now on; once more for the same token replaces it.
 * LLAMA3_EINPUT. */
LLAMA3_API int llama3_sampling_bias(struct llama3_sampling *sampling, int32_t token, float bias,
                                    struct llama3_error *err);

/* Allows the tokens t with bit t % 32 of allowed[t / 32] set, [(vocab_size + 31) / 32], and no
 * others; NULL allows all. The mask stays the caller's, who may change its bits between draws. */
LLAMA3_API void llama3_sampling_mask(struct llama3_sampling *sampling, const uint32_t *allowed);

/* A new answer begins, to these n tokens: penalties count from here. LLAMA3_EINPUT for a token that
 * the vocabulary doesn't have, with all as it was. */
LLAMA3_API int llama3_sampling_begin(struct llama3_sampling *sampling, const int32_t *prompt,
                                     size_t n, struct llama3_error *err);
/* The answer has one more token. LLAMA3_EINPUT. */
LLAMA3_API int llama3_sampling_accept(struct llama3_sampling *sampling, int32_t token,
                                      struct llama3_error *err);

/* Draws the token after `position` tokens. logits: [vocab_size]. It changes nothing: to check the
 * tokens of a draft, draw at each of their positions, and accept those that are kept. LLAMA3_EINPUT
 * if no token that is allowed has a logit above -infinity. */
LLAMA3_API int llama3_sampling_draw(struct llama3_sampling *sampling, const float *logits,
                                    size_t position, int32_t *token, struct llama3_error *err);

/* ---- constraints ----------------------------------------------------------------------- */

/* What the text of an answer has to be. */
enum llama3_constraint_kind {
    LLAMA3_CONSTRAINT_JSON = 0, /* any JSON value */
    LLAMA3_CONSTRAINT_OBJECT,   /* any JSON object */
    LLAMA3_CONSTRAINT_SCHEMA,   /* JSON that a JSON Schema describes */
    LLAMA3_CONSTRAINT_REGEX,    /* what a regular expression matches, all of it */
    LLAMA3_CONSTRAINT_CHOICE,   /* one of the strings of a JSON array */
    LLAMA3_CONSTRAINT_GBNF,     /* a text of a grammar, as llama.cpp writes them */
    LLAMA3_CONSTRAINT_LARK      /* the same, as Lark does */
};

/* A constraint for answers of a model, which must outlive it; any number of sessions and threads
 * may use it at once. text: [length] bytes, of JSON and OBJECT none. where: what errors call the
 * text, a file perhaps; NULL: its kind. The first one of a model takes longer, as its vocabulary is
 * prepared. NULL on failure: LLAMA3_EINPUT for a text that is wrong, or that can't be kept to,
 * with the line, or the JSON pointer of the part of a schema. */
LLAMA3_API struct llama3_constraint *llama3_constraint_open(struct llama3_model *model,
                                                            enum llama3_constraint_kind kind,
                                                            const char *text, size_t length,
                                                            const char *where,
                                                            struct llama3_error *err);
/* Matchers may go on with it. NULL does nothing. */
LLAMA3_API void llama3_constraint_close(struct llama3_constraint *constraint);

/* How far a text has come, for a loop of one's own: llama3_sampling_mask() with its mask before a
 * draw, llama3_matcher_accept() of the token drawn. It belongs to one thread at a time. */
LLAMA3_API struct llama3_matcher *llama3_matcher_open(struct llama3_constraint *constraint,
                                                      struct llama3_error *err);
LLAMA3_API struct llama3_matcher *llama3_matcher_copy(const struct llama3_matcher *matcher,
                                                      struct llama3_error *err);
LLAMA3_API void llama3_matcher_close(struct llama3_matcher *matcher); /* NULL does nothing */
/* The tokens that may come next, as llama3_sampling_mask() takes them: one at least; stop ids where
 * the text may end. Valid until the matcher is used again. NULL on failure: LLAMA3_EINPUT where the
 * constraint takes too much work. */
LLAMA3_API const uint32_t *llama3_matcher_mask(struct llama3_matcher *matcher,
                                               struct llama3_error *err);
/* Takes a token of the mask. LLAMA3_EINPUT for another one, with all as it was. */
LLAMA3_API int llama3_matcher_accept(struct llama3_matcher *matcher, int32_t token,
                                     struct llama3_error *err);
/* Whether the text is whole as it is; and whether, beside that, nothing can follow. */
LLAMA3_API bool llama3_matcher_may_end(const struct llama3_matcher *matcher);
LLAMA3_API bool llama3_matcher_ended(const struct llama3_matcher *matcher);
/* The bytes that must come next, whatever is drawn: up to `room` of them; how many. */
LLAMA3_API size_t llama3_matcher_forced(struct llama3_matcher *matcher, char *bytes, size_t room);

/* ---- generation ------------------------------------------------------------------------ */

/* A step of a loop of one's own. Appends *token to the session, unless it is -1, and evaluates it;
 * then draws the next one to *token. So a loop is
 *
 *     int32_t token = -1;
 *     while (llama3_next(sampling, session, &token, &err) == 0 &&
 *            !llama3_token_is_stop(model, token))
 *         ...
 *
 * after llama3_session_set() and llama3_sampling_begin() with the prompt. The last token drawn is
 * not evaluated. Another token may be put in the place of the one drawn. Fails like
 * llama3_session_eval() and llama3_sampling_draw(); *token is then -1 if it was appended, and else
 * as it was. */
LLAMA3_API int llama3_next(struct llama3_sampling *sampling, struct llama3_session *session,
                           int32_t *token, struct llama3_error *err);

struct llama3_generation {
    size_t size;
    struct llama3_sampling *sampling; /* NULL: the checkpoint's defaults */
    size_t max_tokens;                /* 0: 4096; in any case no more than the context holds */
    const char *const *stop; /* [n_stop]: the answer ends before the first of these strings */
    size_t n_stop;
    /* Callbacks; each may be NULL. Inside on_text and on_token the session may be canceled, forked,
     * and asked for its tokens and logits. */
    /* Text as it comes, whole UTF-8 characters; non-zero ends the generation. */
    int (*on_text)(void *arg, const char *text, size_t length);
    /* Each token as it is drawn, before its text and before it is evaluated, the stop id included;
     * non-zero ends the generation without it. logits: [vocab_size] as the model said them, without
     * biases and penalties. The session is complete up to the token. */
    int (*on_token)(void *arg, int32_t token, const float *logits);
    /* As of llama3_session_set(). */
    void (*on_prompt)(void *arg, size_t done, size_t total);
    void *arg; /* of all */

    /* The thoughts of a model that thinks before it answers (thinks of struct llama3_info), without
     * <think>, </think> and the white space around; as on_text. NULL: they come with on_text, as
     * they are, but for tags that are control tokens. */
    int (*on_thought)(void *arg, const char *text, size_t length);

    /* Calls of tools, told from the text as the chat template writes them: on_text gets what is
     * beside them, and no part of a call. tools: an array as of llama3_template_options, of those
     * that may be called; NULL: all is text. What calls another tool is text as well. */
    const char *tools;
    size_t max_calls; /* the answer ends after so many; 0: any number */
    /* A call begins; index counts from 0. Then more of its arguments, whole UTF-8 characters that
     * are JSON text together, unless the answer ends before; non-zero ends the generation. Each may
     * be NULL. */
    int (*on_call)(void *arg, size_t index, const char *name);
    int (*on_arguments)(void *arg, size_t index, const char *text, size_t length);

    /* One of the session's model: the answer is what it says, unless something else than
     * LLAMA3_FINISH_STOP, or a stop string, ends it before. It ends where nothing can follow, or
     * with a stop id where it may. Thoughts that on_thought takes, or that the prompt begins, are
     * free, and end before the model ends the answer. Where bytes must come, their tokens are those
     * that the tokenizer makes of them, without a draw, and are evaluated in one pass. NULL: the
     * answer may be anything. */
    const struct llama3_constraint *constraint;
    /* on_token gets NULL for logits. Without it tokens that must come are evaluated one by one if
     * there is an on_token; with it the session may lack some that were told. */
    bool no_logits;
};

enum llama3_finish {
    LLAMA3_FINISH_STOP = 0, /* a stop id, a stop string, max_calls, or the end of what a constraint
                               allows */
    LLAMA3_FINISH_LENGTH,   /* max_tokens, or the context is full */
    LLAMA3_FINISH_CANCELED, /* llama3_session_cancel() */
    LLAMA3_FINISH_CALLBACK, /* one that may end it returned non-zero */
    LLAMA3_FINISH_FAILED    /* the call returned -1 */
};

struct llama3_result {
    size_t size;
    enum llama3_finish finish;
    int32_t stop_id;      /* the stop id that ended it, or -1 */
    int stop_string;      /* index of the stop string that ended it, or -1 */
    size_t prompt_tokens; /* all of the prompt */
    size_t cached_tokens; /* of these, already in the session or the prefix cache */
    size_t answer_tokens; /* tokens generated, the stop id not counted */
    double prompt_seconds, answer_seconds;
    size_t stored_tokens; /* of the cached ones, from files (llama3_model_keep_prefixes_in()) */
    size_t calls;         /* of tools, in the answer */
};

/* llama3_session_set() with the n >= 1 tokens of a prompt, then an answer by llama3_next(), as
 * text. generation and result may be NULL; of a failure, result says how far it got. Being
 * canceled is a success, even if the whole answer was there when it was noticed. Fails like
 * llama3_next(); LLAMA3_EINPUT for an empty stop string, and for tools that are no array of
 * functions with names. Errors number stop strings from 1. */
LLAMA3_API int llama3_session_generate(struct llama3_session *session, const int32_t *prompt,
                                       size_t n, const struct llama3_generation *generation,
                                       struct llama3_result *result, struct llama3_error *err);

/* The answer to a query after a history, which is extended by both; the text belongs to the
 * history. generation may be NULL; its callbacks are called as well. Thoughts that on_thought took
 * stand before it between <think> and </think>, as templates expect them. NULL on failure, with the
 * history as it was; fails as llama3_apply_template() and llama3_session_generate(), and with
 * LLAMA3_ECANCELED. */
LLAMA3_API const char *llama3_session_respond(struct llama3_session *session,
                                              struct llama3_history *history, const char *query,
                                              const struct llama3_generation *generation,
                                              struct llama3_error *err);

/* ---- quantizing ------------------------------------------------------------------------ */

struct llama3_quantize_options {
    size_t size;
    const char *layers; /* type of the layers' matrices: "int4" (NULL) or "int8"; or of GGUF, see
                           format below */
    /* Of the embedding and of the head: "int4", "int8", "bf16", "f16" or "f32", or of GGUF. NULL:
     * what goes with the layers, or, in a tied model, the other's. */
    const char *embeddings, *head;
    int threads;       /* 1..1024; 0: every core this process may use */
    bool no_calibrate; /* each matrix for itself: much faster, much less like the checkpoint */
    const char *const *texts;      /* [n_texts] to calibrate by besides the built-in one, each of
                                      128 tokens or more */
    const char *const *text_names; /* [n_texts] what errors call them, or NULL */
    size_t n_texts;

    /* Callbacks; each may be NULL. */
    /* Of total bytes of the checkpoint, done are quantized; total 0: not known yet. Non-zero gives
     * up (LLAMA3_ECANCELED). */
    int (*on_progress)(void *arg, uint64_t done, uint64_t total);
    /* One line about what is no failure: what the checkpoint says that is done otherwise, that a
     * given text is longer than what is used, why calibrating gains less on this machine, that the
     * file goes on where an earlier run ended, or, before a failure, that another run can go on
     * with this one's. */
    void (*on_note)(void *arg, const char *note);

    /* Of a checkpoint whose files are still arriving: each has its full size and its header, and
     * the small ones are whole. */
    /* What they are, as a text with their names and digests: a run goes on with what another
     * made of the same, wherever the files lie. NULL: they are known by their places on disk. */
    const char *contents;
    /* Bytes that are going to be read, in order; file is a name without its folder. All calls come
     * before the first of on_progress, on_need and on_spent. */
    void (*on_plan)(void *arg, const char *file, uint64_t offset, uint64_t bytes);
    /* Waits until these bytes are there: nothing is read of the weights that was not asked for. -1
     * with err filled in ends it; what was made stays, unless err says LLAMA3_EINPUT: the bytes are
     * no good. */
    int (*on_need)(void *arg, const char *file, uint64_t offset, uint64_t bytes,
                   struct llama3_error *err);
    /* Bytes that are never read again, not even by a run that goes on with this file. */
    void (*on_spent)(void *arg, const char *file, uint64_t offset, uint64_t bytes);
    /* All is made, and waits for its name: it gets none if this returns -1 with err filled in, and
     * is removed if err says LLAMA3_EINPUT. */
    int (*on_made)(void *arg, struct llama3_error *err);
    void *arg; /* of all */

    /* "llama3" (NULL), our own; or "gguf", which llama.cpp and others read. Types are then "q4_0",
     * "q4_1", "q5_0", "q5_1", "q8_0", "q4_k" (NULL), "q5_k", "q6_k", "iq4_nl", "bf16", "f16" and
     * "f32". A note tells of matrices whose rows a type's blocks don't divide, which get another,
     * and of what a GGUF file has no place for. */
    const char *format;
};

/* What became of the matrices of one kind. */
struct llama3_quantized {
    const char *name; /* "q", "k", "v", "o", "gate", "up", "down", "embed", "head" */
    const char *type; /* "int4" */
    uint64_t weights, bytes;
    uint64_t carried; /* of the weights: in the checkpoint's codes, not rounded again */
    double error;     /* of the other weights, relative: squared errors over squares */
};

struct llama3_quantize_report {
    size_t size;
    uint64_t parameters, file_bytes;
    bool tied_embeddings;
    size_t calibration_tokens;             /* 0: it was not calibrated */
    const struct llama3_quantized **kinds; /* [n_kinds] in the order of above, for llama3_free() */
    size_t n_kinds;
};

/* Makes one file, ready to run, of a checkpoint (as of llama3_model_open()), in bounded memory. The
 * file gets its name once it is whole; a run that was interrupted goes on with OUT.partial, to the
 * same bytes. options and report may be NULL; report is filled in on success alone. LLAMA3_EINPUT
 * for options that contradict each other or the checkpoint, for an OUT that is one of its files,
 * and for weights that are not finite; LLAMA3_EIO; LLAMA3_ECANCELED; LLAMA3_EABSENT. */
LLAMA3_API int llama3_quantize(const char *in, const char *out,
                               const struct llama3_quantize_options *options,
                               struct llama3_quantize_report *report, struct llama3_error *err);

/* What calibrating was worth: the mean KL divergence, in nats, of the predictions of a file from
 * those of the checkpoint `in` that it was made of, on a short text that it was not calibrated by,
 * and what it would be without. threads as above. LLAMA3_EINPUT, LLAMA3_EIO, LLAMA3_EABSENT. */
LLAMA3_API int llama3_quantize_gain(const char *in, const char *out, int threads, double *kl,
                                    double *plain_kl, struct llama3_error *err);

#ifdef __cplusplus
}
#endif
#endif
