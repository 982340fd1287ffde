"""The vocabularies of Llama 3 and SmolLM2 in `tokenizers`, and texts to try them on."""
import base64
import json
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

TOKENIZERS = "0.23.3"
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_CONTROL = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>", "<|reserved_special_token_2|>",
    "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
]  # fmt: skip
LLAMA3_CONTROL += [f"<|reserved_special_token_{i - 8}|>" for i in range(11, 256)]


# ---- vocabularies --------------------------------------------------------------------------


def byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


ALPHABET = byte_alphabet()
BYTES = {char: byte for byte, char in ALPHABET.items()}


class Vocab:
    """tokens: [(kind, bytes)], kind "t" (text) or "c" (control); merges: [(left, right, result)]
    as ids, best first."""

    def __init__(self, tokens, merges, ignore_merges, bos):
        self.tokens, self.merges, self.ignore_merges, self.bos = tokens, merges, ignore_merges, bos

    def spelled(self, token):
        kind, raw = self.tokens[token]
        return raw.decode() if kind == "c" else "".join(ALPHABET[b] for b in raw)

    def model(self, controls=True):
        """BPE of `tokenizers`; without controls no text can become one."""
        vocab = {self.spelled(i): i for i, (kind, _) in enumerate(self.tokens)
                 if controls or kind == "t"}
        merges = [(self.spelled(left), self.spelled(right)) for left, right, _ in self.merges]
        return models.BPE(vocab, merges, fuse_unk=False, ignore_merges=self.ignore_merges)

    def reduced(self, n):
        """The first n tokens, which are closed under merging, and the control tokens after."""
        controls = [t for t in self.tokens[n:] if t[0] == "c"]
        bos = self.bos if self.bos < n else n
        merges = [m for m in self.merges if max(m) < n]
        return Vocab(self.tokens[:n] + controls, merges, self.ignore_merges, bos)

    def write(self, path, pretokenizer):
        """As tests/vocab_file.c reads it."""
        with open(path, "w", encoding="ascii") as file:
            print(len(self.tokens), len(self.merges), int(self.ignore_merges), self.bos,
                  pretokenizer, file=file)
            for kind, raw in self.tokens:
                print(kind, raw.hex(), file=file)
            for merge in self.merges:
                print(*merge, file=file)


def llama3_vocab(path):
    """From Meta's tokenizer.model: a line for each token, base64 and rank. Every split of a token
    into two is a merge, as transformers converts it."""
    with open(path, "rb") as file:
        ranks = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in file}
    assert list(ranks.values()) == list(range(len(ranks)))
    merges = []
    for token, rank in ranks.items():
        splits = ((ranks.get(token[:i]), ranks.get(token[i:])) for i in range(1, len(token)))
        merges += [(*split, rank) for split in sorted(s for s in splits if None not in s)]
    tokens = [("t", token) for token in ranks] + [("c", name.encode()) for name in LLAMA3_CONTROL]
    return Vocab(tokens, merges, True, len(ranks))


def smollm2_vocab(path):
    """From the GGUF file."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    spelled = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    ids = {token: i for i, token in enumerate(spelled)}
    tokens = [("c", s.encode()) if kind == 3 else ("t", bytes(BYTES[c] for c in s))
              for s, kind in zip(spelled, kinds, strict=True)]
    pairs = [merge.split(" ") for merge in fields["tokenizer.ggml.merges"].contents()]
    merges = [(ids[a], ids[b], ids[a + b]) for a, b in pairs]
    return Vocab(tokens, merges, False, fields["tokenizer.ggml.bos_token_id"].contents())


CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
# Ranges of code points, one hexadecimal number or two.
DEEPSEEK_LETTERS = """
41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376 377 37b-37d 37f 386 388-38a 38c
38e-3a1 3a3-3f5 3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b
1d6b-1d77 1d79-1d9a 1e00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d
1f80-1fb4 1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102
2107 210a-2113 2115 2119-211d 2124 2126 2128 212a-212d 212f-2134 2139 213c-213f 2145-2149 214e 2183
2184 2c00-2c7b 2c7e-2ce4 2ceb-2cee 2cf2 2cf3 a640-a66d a680-a69b a722-a76f a771-a787 a78b-a78e
ab70-abbf fb00-fb06 fb13-fb17 ff21-ff3a ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2
10cc0-10cf2 118a0-118df 1e900-1e943"""
LETTERS = "".join("-".join(chr(int(end, 16)) for end in part.split("-"))
                  for part in DEEPSEEK_LETTERS.split())
# Split by one after another; a number: into digits.
SPLITS = {
    "llama3": [LLAMA3_PATTERN],
    "qwen2": [LLAMA3_PATTERN.replace("{1,3}", "")],
    "seed-coder": ["(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}"
                   "| ?[^\\s\\p{L}\\p{N}\r\n]+|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"],
    "tekken": [CASED % ("", "", "")],
    "gpt-4o": [CASED % (CONTRACTION, CONTRACTION, "{1,3}")],
    "viking": [" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+", 1],
    "deepseek-llm": ["[\r\n]", rf"\s?[{LETTERS}]+",
                     "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$", CJK, 1],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, 1],
}  # fmt: skip


def pre_tokenizer(name):
    if name in SPLITS:
        steps = [pre_tokenizers.Digits(individual_digits=True) if step == 1 else
                 pre_tokenizers.Split(Regex(step), behavior="isolated", invert=False)
                 for step in SPLITS[name]]
        return pre_tokenizers.Sequence(
            [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name == "gpt2":
        return gpt2
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])


def cuts(pre, text):
    """Bytes of each pre-token: ByteLevel writes a byte as one character."""
    return [len(piece) for piece, _ in pre.pre_tokenize_str(text)]


def tokenizer(vocab, name, controls=False):
    """Without controls nothing is added to the text's tokens, so that names of control tokens are
    plain text; with them they are recognised."""
    made = Tokenizer(vocab.model(controls))
    made.pre_tokenizer = pre_tokenizer(name)
    made.decoder = decoders.ByteLevel()
    if controls:
        made.add_special_tokens([AddedToken(raw.decode(), normalized=False, special=True)
                                 for kind, raw in vocab.tokens if kind == "c"])
    return made


# ---- added tokens --------------------------------------------------------------------------


WHITE_SPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200b))) + (
    "\u2028\u2029\u202f\u205f\u3000")
WORDS = Tokenizer(models.BPE({}, []))  # which finds "xyz" where it touches no word
WORDS.add_tokens([AddedToken("xyz", single_word=True, normalized=False)])


def cut_added(tokenizer, flags, text, given):
    """The ids of a text in which tokens are found where no character of their name is given. flags: by
    a token's name its id, special, lstrip, rstrip, single_word, normalized. Without characters that
    are given this is what `tokenizers` does."""
    def is_word(char):
        return WORDS.encode(char + "xyz").ids == []

    def cut(text, given, normalized):
        if normalized == 2:
            return tokenizer.encode(text, add_special_tokens=False).ids
        ids, done, at = [], 0, 0
        names = sorted((n for n in flags if flags[n][5] == normalized), key=len, reverse=True)
        while at < len(text):
            name = next((n for n in names if text.startswith(n, at)
                         and not any(given[at:at + len(n)])), None)
            if name is None:
                at += 1
                continue
            token, _, lstrip, rstrip, single_word, _ = flags[name]
            start, end = at, at + len(name)
            at = end
            if single_word and (start > 0 and is_word(text[start - 1])
                                or end < len(text) and is_word(text[end])):
                continue
            if lstrip:
                start = max(len(text[:start].rstrip(WHITE_SPACE)), done)
            if rstrip:
                end = len(text) - len(text[end:].lstrip(WHITE_SPACE))
            if done < start:
                ids += cut(text[done:start], given[done:start], normalized + 1)
            ids.append(token)
            done = end
        return ids + cut(text[done:], given[done:], normalized + 1)

    return cut(text, given, 0)


# ---- texts ---------------------------------------------------------------------------------

# One of every sort that a rule or the tables can tell apart.
PARTS = [
    " ", " ", "  ", "    ", "\t", "\n", "\n\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x1f",
    "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u2029", "\u202f", "\u3000", "\u180e", "\u200b",
    "\u200d", "\ufeff", "'", "'s", "'S", "'t", "'RE", "'ve", "'Ve", "'m", "'ll", "'lL", "'d", "'x",
    "'\u017f", "\u017f", "\u212a", "\u2019s", "''", "don't", "I'LL", "0", "7", "42", "123", "1234",
    "3.14", "1,000", "\u0663", "\u00bd", "\u2167", "\u4e09", "\u096a", "\U0001d7d8", "\U00011de3",
    "\U00016ff5", "a", "Z", "the", "The", "and", "ing", "hello", "world", "Hello", "of", "token",
    "naïve", "Straße", "İstanbul", "ı", "ǅ", "ª", "ʰ", "été", "e\u0301", "a\u0308\u0323", "Ω", "λόγος",
    "Привет", "мир", "שלום", "مرحبا", "नमस्ते", "สวัสดี", "გამარჯობა", "ህ", "你好", "世界", "こんにちは",
    "カタカナ", "ー", "안녕", "한국어", "𠀀", "𐌰", "𝒜", "🙂", "👩\u200d👩\u200d👧", "🇫🇷", "🏽", "❤\ufe0f", "\u20ac",
    "$", "...", "!", "?!", "--", "—", "«", "»", "(", ")", "[]", "{}", "#", "@", "/", "//", "\\", "_",
    "__init__", "==", "<|eot_id|>", "<|im_start|>", "<", "|", ">", "http://", "a.b", "\0", "\x01",
    "\x7f", "\ue000", "\U0010ffff", "\u0378", "\ufffd", "\ufdd0", "\U000e0061", "\U00010d40",
    "\U0001ccf3", "\u1c89", "aaaaaaaa", "        ", "\n\n\n\n", "????????",
]  # fmt: skip


def random_scalar(rng):
    """Half of them below U+3100, where scripts are dense."""
    while True:
        scalar = rng.randrange(0x3100) if rng.random() < 0.5 else rng.randrange(0x110000)
        if not 0xD800 <= scalar < 0xE000:
            return chr(scalar)


def random_text(rng, longest=12):
    return "".join(random_scalar(rng) if rng.random() < 0.12 else rng.choice(PARTS)
                   for _ in range(rng.randint(1, longest)))


def texts(seed, n, longest=12):
    rng = random.Random(seed)
    return [random_text(rng, longest) for _ in range(n)]


def dump_lines(path, values):
    """A JSON array, one element a line."""
    with open(path, "w", encoding="ascii") as file:
        lines = [json.dumps(value, separators=(",", ":")) for value in values]
        file.write("[" + ",\n".join(lines) + "]\n")
