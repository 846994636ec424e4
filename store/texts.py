"""Rules from their canonical texts, each text parsed once: database and journal hold the same ones.

Needs no database, so that who only reads a journal loads none.
"""

from functools import lru_cache

from rules import rule as rules_rule
from rules.rule import Rule, RuleId


@lru_cache(maxsize=32_768)
def parsed(text: str) -> tuple[Rule, RuleId]:
    """The rule of a canonical text, and its id; cached, because values are immutable and texts come back often."""
    rule = rules_rule.parse(text)
    return rule, rule.id
