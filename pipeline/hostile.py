"""Texts on which tokenizer backends have differed: a fixed set by name, and every code point in context.

Comes in:   nothing.
Goes out:   `hostile_texts()`: name -> text; `code_point_texts()`: (first code point, text of 256 of them).
Guaranteed: the same texts on every machine and Python version (no random module, no Unicode tables of this
            Python); no lone surrogates, which never reach an encoder.

    >>> hostile_texts()["contractions"][:9]
    "it's IT'S"

No text is larger than it must be: the reference encodes about 3 MB/s, and `pipeline.trust` has 2.5 s for
all of it. The long runs are 300,000 bytes, because backends change their ways by size: regex stacks overflow
near 64 Ki, and inputs are dealt to threads or chunks in powers of two up to 256 Ki.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

RUN_BYTES: Final = 300_000
END_OF_CODE_POINTS: Final = (
    0x32400  # the last assigned block of ideographs ends below; then come private and empty planes
)
CODE_POINTS_PER_TEXT: Final = 256

# Between letters (joins or splits a word), after a space and doubled (starts one), after a digit, ends a line.
CODE_POINT_CONTEXT: Final = "a{0}b {0}{0} 1{0}\n"


def hostile_texts() -> dict[str, str]:
    """Every named text. Names are what a warning shows to the user."""
    return {
        **_runs(),
        **_controls_and_spaces(),
        **_special_tokens(),
        **_scripts(),
        **_code_and_markup(),
        **_noise(),
    }


def code_point_texts() -> Iterator[tuple[int, str]]:
    """All code points below U+32400 but surrogates, 256 to a text."""
    for first in range(0, END_OF_CODE_POINTS, CODE_POINTS_PER_TEXT):
        if not 0xD800 <= first < 0xE000:
            yield first, "".join(map(code_point_text, range(first, first + CODE_POINTS_PER_TEXT)))


def code_point_text(code_point: int) -> str:
    """One code point in its contexts."""
    return CODE_POINT_CONTEXT.format(chr(code_point))


def _runs() -> dict[str, str]:
    """One endless word per class of the usual word rules: letters, digits, marks, signs, spaces, newlines."""
    units = {
        "a": "a",
        "space": " ",
        "newline": "\n",
        "carriage return and newline": "\r\n",
        "tab and space": "\t ",
        "digit": "7",
        "hyphen": "-",
        "ideograph": "的",
        "combining accent": "\u0301",
        "emoji": "🦄",
    }
    # Half the length for the less common ones: they run through the same code as the others.
    shorter = {"carriage return and newline", "tab and space", "combining accent", "emoji"}
    texts = {}
    for name, unit in units.items():
        num_bytes = RUN_BYTES // 2 if name in shorter else RUN_BYTES
        texts[f"run of {name}"] = unit * (num_bytes // len(unit.encode()))
    texts["one word of mixed letters"] = "".join(chr(97 + n % 26) for n in _numbers(100_000, seed=1))
    texts["one long line"] = "x = " + " + ".join(f"v{i}" for i in range(10_000))
    return texts


def _controls_and_spaces() -> dict[str, str]:
    return {
        "empty": "",
        "nul": "\0",
        "nul between": "abc\0def\0\0ghi",
        "many nul": "\0" * 1000,
        "controls": "".join(map(chr, range(32))) + "\x7f\x80\x85\x9f\xa0\xad",
        "byte order mark": "\ufeffhello\ufeff",
        "joiners and selectors": "a\u200db\u200cc\ufe0fd\u2060e\ufefff\u034fg",
        "white space runs": "a  b   c\n\n\nd \n e\t\tf \r\n g\r\r\n   \n   h   ",
        "white space around": "   abc   \n",
        "white space before newline": "x \n  y\t\n\n \nz\n ",
        "unicode white space": "a\u00a0\u2003\u3000b\u2028c\u2029d\u0085e\u180ef\u200bg\u1680h\u205fi",
    }


def _special_tokens() -> dict[str, str]:
    names = (
        "<|endoftext|> <|im_start|>user<|im_end|> <s></s><unk><pad>[MASK] [CLS]<bos><eos> <|begin_of_text|>"
        "<|eot_id|><|end_of_text|> <｜begin▁of▁sentence｜><｜end▁of▁sentence｜> <start_of_turn><|fim_prefix|>"
    )
    return {
        "special tokens": f"a{names}b\n{names}",
        "special token alone": "<|endoftext|>",
        "special token in spaces": "  <|endoftext|>  x\n<|endoftext|>\n",
        "special tokens in part": "<|endoftext <|endoftext| |endoftext|> <|end<|endoftext|>oftext|> <<s>>",
        "names of bytes": "<0x0A><0xFF>Ġhello Ċ Ã ĠĠ Ä",
        "names of spaces": "▁hello▁▁ world ▁ ",
    }


def _scripts() -> dict[str, str]:
    return {
        "joined emoji": "👨‍👩‍👧‍👦 👩🏽‍🚀🏳️‍🌈 🇩🇪🇫🇷🇩 ❤️‍🔥 1️⃣ #️⃣",
        "right to left": "שלום עולם مرحبا بالعالم \u202eabc\u202c אָלֶף ـــ",
        "composed and combining": "e\u0301 é a\u0300\u0301\u0302" * 20 + " 각 각 \u0344 \u0958",
        "compatibility forms": "ﬁ ① ㎏ Å Å ｆｕｌｌ ﷺ ½ ﾊﾝｶｸ",
        "numbers": "1234567890 3.14159 ٠١٢٣ १२३ Ⅷ ½ ² 𝟙𝟚𝟛 1,000,000 一二三 1 22 333 4444 55555",
        "astral and private": "𐍈𝕳𝖊𝖑𝖑𝖔 𠜎𠜱 \U0010ffff\ue000\U000f0000 \ufffe\uffff\ufffd\ufdd0",
        "unassigned": "\u0378\u0379\U000e0fff\u2fe0\U000323b0",
        "newly assigned": "\U0001fae8\U0001c400 \U00031350 \u0cf3 \U00010d40\U00011bc0\U00016d40\ua7cb\u1c89",
        "tags and variation": "🏴\U000e0067\U000e0062\U000e007f x\U000e0100y",
        "marks inside words": "நிரல் தமிழ் क्षत्रिय ไทยภาษา ខ្មែរ မြန်မာ བོད་ཡིག",
        "letters that change with case": "İıIi ſ K Å ß ẞ ŉ ǰ Σίσυφος ǅ ᾳ",
        "no spaces": "我们在学习自然语言处理。今日は良い天気ですね、散歩しましょう！안녕하세요",
    }


def _code_and_markup() -> dict[str, str]:
    return {
        "contractions": "it's IT'S we'Ll don'T 'tis ''ve 's's 's’s I'd'd ’ll 'ſ x'K",
        "camel case": "parseHTTPResponse getURLForID XMLHttpRequest2 aB Bc ABc éÉè ǅx",
        "underscores": "a_b__c___d _ __init__ \u203f\u2040",
        "markup": "<script>alert(1)</script>&lt;&#0;<!-- -- -->",
        "code": "def f(x):\n\tif x != '':\n\t\treturn {**x, 'a': [1,2]}  # ok\n\n\n\nclass A: pass\r\n",
        "signs": "!!!??? ...--- ===>>> /* */ // \\\\ ((())) $$$ €£ ™® «» ¿¡ ##\n--\n /\n!\r\n",
    }


def _noise() -> dict[str, str]:
    """Arbitrary neighbours: ASCII, Latin, the rest of the first plane, one astral block, and white space."""
    ranges = (
        (0x20, 0x7F),
        (0x20, 0x250),
        (0x250, 0xD800),
        (0xE000, 0x10000),
        (0x10000, 0x11000),
        (0x1F000, 0x20000),
    )
    rare = " \n'_\t"
    picked = []
    for n in _numbers(60_000, seed=7):
        kind, n = n % 11, n // 11
        picked.append(chr(ranges[kind][0] + n % (ranges[kind][1] - ranges[kind][0])) if kind < 6 else rare[kind - 6])
    words = " 'abtslrevdm0123456789\n.-_ABÉé的"
    mixed = "".join(words[n % len(words)] for n in _numbers(60_000, seed=9))
    return {"noise of all planes": "".join(picked), "noise of words": mixed}


def _numbers(count: int, *, seed: int) -> Iterator[int]:
    """A linear congruential sequence (Knuth's MMIX constants); the noise uses its upper bits."""
    state = seed
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        yield state >> 33
