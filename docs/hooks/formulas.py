"""Formulas as MathML, which browsers draw by themselves: no script and no font is fetched."""

import html
import re

from latex2mathml.converter import convert

WORDS = ("across", "within", "label\\_reg", "reg", "tr", "OPT", "CVaR", "DEO")
"""Names of several letters that formulas write without ``\\mathrm``."""

FORMULA = re.compile(r'<(span|div) class="arithmatex">(?:\\\(|\\\[)(.*?)(?:\\\)|\\\])</\1>', re.S)
LETTERS = re.compile(r'(?:<mi mathvariant="normal">(?:[A-Za-z]|&#x0005F;)</mi>){2,}')


def on_page_content(content: str, **kwargs) -> str:
    return FORMULA.sub(lambda found: mathml(html.unescape(found[2]), found[1] == "div"), content)


def mathml(latex: str, block: bool) -> str:
    """The MathML of a formula."""
    for word in WORDS:
        latex = re.sub(rf"(?<![\\A-Za-z{{_]){re.escape(word)}(?![A-Za-z])", lambda m: rf"\mathrm{{{m[0]}}}", latex)
    made = convert(latex.strip(), display="block" if block else "inline")
    # One name, not letters side by side.
    made = LETTERS.sub(lambda m: f"<mi>{''.join(re.findall('>([^<]+)</mi>', m[0]))}</mi>", made)
    return f'<div class="formula">{made}</div>' if block else made
