/* SPDX-License-Identifier: MIT */
/*
 * packed.h: our own file, format "llama3": all of a checkpoint in one valid safetensors file that
 * is ready to map. Matrices have Hugging Face's names. A grouped one (group.h) is a U8 tensor of
 * its bytes; the metadata have its type and shape. All formats of group.h are allowed, so that
 * codes of GGUF's types stay as they are. Other matrices are stored as they are, norms as F32.
 * Every tensor begins at a multiple of PACKED_ALIGNMENT of the file. Tensors "pad.N" fill the gaps,
 * which safetensors does not allow, and spaces pad the header.
 *
 *     tokenizer.bytes     U8 [size]          struct vocab, as it is in memory
 *     tokenizer.offsets   U32 [n + 1]
 *     tokenizer.kinds     U8 [n]
 *     tokenizer.flags     U8 [n]             where a token has any
 *     tokenizer.merges    I32 [n_merges, 3]
 *     tokenizer.ranks     U32 [n_merges]     where several have the same
 *     rope_freqs.weight   F32 [head_dim / 2] where a checkpoint has them
 *
 * __metadata__, all strings:
 *
 *     format              "llama3"
 *     version             "1"
 *     config              JSON as config.json, of what the model is and the eos ids
 *     generation_config   JSON as generation_config.json
 *     rope_interleaved    "true": q and k have GGUF's order of rows, "false": Hugging Face's
 *     rope                JSON: attention_factor, if it isn't YaRN's, which config has
 *     tokenizer           JSON: pretokenizer, ignore_merges, add_bos, bos; of SentencePiece also
 *                         prefix (enum blank_prefix) and strips_blank
 *     chat_template       the text of the default one, if there is one
 *     chat_templates      JSON: the texts of all by their names, if there are several
 *     special_tokens      JSON: the texts of bos_token and the like, which templates name
 *     matrices            JSON: of each grouped matrix by its name type, rows, cols, scale ("int8",
 *                         "f16" or "block"), offset, levels, and group, the columns that share a
 *                         scale, if these are not 32
 */
#ifndef CHECKPOINT_PACKED_H
#define CHECKPOINT_PACKED_H

#include "checkpoint/tensor_write.h"

enum { PACKED_VERSION = 1, PACKED_ALIGNMENT = 4096 };

/* Writes all of a file, which then waits to be committed. */
int packed_write(struct new_file *file, const struct tensor_source *source,
                 struct llama3_error *err);

#endif
