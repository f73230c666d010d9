"""Words by which an answer says that it does not know, or that the text does not say, in English and Chinese.

The prose around a needle may well hold "I don't know", and a base model goes on with such prose. So a phrase in the
first person counts only at the beginning of an answer, and the others only where they speak of a text or of telling.
"""

from __future__ import annotations

import re

_NOT = r"(?:does not|doesn't|do not|don't|did not|didn't|cannot|can't|could not|couldn't)"
_TEXT = (
    r"(?:text|document|context|passage|article|essay|excerpt|information|material|content|story|book|haystack|source)s?"
    r"(?: (?:that )?(?:you(?:'ve| have)? )?(?:provided|given|above|shared))?"
)
_SAY = r"(?:mention|contain|say|provide|include|specify|state|give|reveal|have|discuss|indicate|list|offer|tell|answer)"
_TOLD = r"(?:mentioned|specified|stated|provided|disclosed)"
_THERE = rf"(?:{_TOLD}|given|included|contained|found|present|available|revealed|known|listed|answered|there)"
_WEAK = r"(?:\w+ ){0,2}?"  # "explicitly", "been", "seem to"
_FIRST_PERSON = (
    r"i (?:do not|don't) (?:actually |really )?"
    r"(?:know(?= ?[.,;:!?\"'*]|$| the | what | which | that | this | about | from | based | it\b)"
    r"|have (?:any |enough |that |the |sufficient |access )|see (?:any|a) |find (?:any|a) )",
    r"i(?: am|'m) (?:unable|not able) to ",
    r"i (?:cannot|can't|could not|couldn't|was unable to) "
    r"(?:find|answer|determine|tell|locate|see|provide|help|assist|identify|say|give|share|reveal|disclose)",
    r"i(?: have|'ve) no (?:idea|information|knowledge)",
    r"as an ai\b",
)
_OPENING = r"(?:(?:i'm|i am) sorry|sorry|i apologi[sz]e|apologies|unfortunately|regrettably|well|hmm)"
_OPENERS = rf"(?:{_OPENING}[,.:;!]? ?(?:but |for the confusion,? )?)*"
_OF_A_TEXT = (
    rf"\b{_TEXT} {_NOT} {_WEAK}{_SAY}\b",
    rf"\b(?:is|are|was|were|has|have)(?: not|n't) {_WEAK}{_TOLD}\b",
    rf"\bnot {_WEAK}(?:{_THERE} )?(?:anywhere )?(?:in|by|within) (?:the|this|your|any) (?:\w+ )?{_TEXT}\b",
    rf"\bno (?:such )?(?:\w+ ){{1,3}}?(?:is|are|was|were) {_THERE}\b",
    r"\bthere (?:is|was) (?:no|not any) (?:\w+ ){0,3}?(?:mention|reference|answer|code|number|value)\b",
    rf"\bthere (?:is|was) nothing (?:\w+ ){{0,3}}?(?:mentioned|about|(?:in|within) (?:the|this) {_TEXT})\b",
    r"\b(?:no|not enough|insufficient) (?:relevant |specific |such )?(?:information|mention|reference)\b",
    r"\b(?:cannot|can't|could not|couldn't) be (?:determined|found|answered|identified|located)\b",
)
_ALONE = r"(?:unknown|n/?a|none|unanswerable|no answer|not (?:found|given|known|available|mentioned|specified|stated))"
_NO = r"(?:没有|沒有|没能|沒能|没|沒|未能|未曾|未)"
_CHINESE = (
    r"不(?:知道|清楚|了解|晓得|曉得|得而知)",
    r"(?:无法|無法|不能|没法|沒法)[^。！？]{0,20}?(?:回答|确定|確定|找到|得知|判断|判斷|提供|获取|獲取|知道|得出)",
    rf"{_NO}(?:明确|明確|直接|具体|具體|任何地方)?"
    r"(?:提到|提及|找到|说明|說明|给出|給出|包含|提供|记载|記載|指出|说到|說到|告诉|告訴)",
    rf"{_NO}[^。！？]{{0,20}}?(?:信息|資訊|资讯|内容|內容|答案|资料|資料|线索|線索)",
    r"(?:找不到|查不到|看不到|不包含)",
    r"^(?:抱歉|对不起|對不起)",
)
_REFUSAL = re.compile(
    "|".join(
        (
            rf"^{_OPENERS}(?:{'|'.join(_FIRST_PERSON)})",
            rf"^(?:the answer is |answer: )?{_ALONE}(?= ?[.!\"'*]*$)",
            *_OF_A_TEXT,
            *_CHINESE,
        )
    )
)


def find(said: str) -> re.Match[str] | None:
    """The first refusal in `said`, a text as `_outcome.plain` makes it."""
    return _REFUSAL.search(said.replace("’", "'").lstrip("\"'*_“ "))
