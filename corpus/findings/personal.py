"""Secrets and personal data in a text; of each hit only its form is kept, never the value.

Secrets are found by the plugins of detect-secrets that know a vendor's form, and by a few forms that it lacks. An
automaton over the beginnings of all forms decides in one pass which texts are looked at closely.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

FURTHER_SECRETS: Final[Mapping[str, str]] = {
    "Anthropic key": r"\bsk-ant-[A-Za-z0-9_-]{20,}",
    "OpenAI key": r"\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{40,}",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "Google API key": r"\bAIza[0-9A-Za-z_-]{35}",
    "GitHub Token": r"\bgithub_pat_[0-9A-Za-z_]{40,}",
}
PERSONAL: Final[Mapping[str, str]] = {
    "email address": r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}",
    "card number": r"\b[0-9](?:[ -]?[0-9]){12,18}\b",
    "IBAN": r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}\b",
    "phone number": (
        r"\+[0-9]{1,3}(?:[ ./-]?\(?[0-9]{1,5}\)?){2,6}|\(0?[0-9]{2,4}\)[ -]?[0-9]{3,4}[ -][0-9]{3,5}"
        r"|\b[0-9]{3}[-.][0-9]{3}[-.][0-9]{4}\b|\b0[0-9]{2,4}[ /-][0-9]{3,}(?:[ -]?[0-9]{2,})*\b"
    ),
    "social security number": r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b",
}
HARMLESS_DOMAINS: Final = ("example.com", "example.org", "example.net", "example.edu", ".example", ".test", ".invalid")
"""Reserved for documentation by RFC 2606: nobody's address."""
_PLUGINS: Final[Mapping[str, str]] = {
    "artifactory": "ArtifactoryDetector",
    "aws": "AWSKeyDetector",
    "azure_storage_key": "AzureStorageKeyDetector",
    "basic_auth": "BasicAuthDetector",
    "discord": "DiscordBotTokenDetector",
    "github_token": "GitHubTokenDetector",
    "gitlab_token": "GitLabTokenDetector",
    "jwt": "JwtTokenDetector",
    "mailchimp": "MailchimpDetector",
    "npm": "NpmDetector",
    "openai": "OpenAIDetector",
    "private_key": "PrivateKeyDetector",
    "pypi_token": "PypiTokenDetector",
    "sendgrid": "SendGridDetector",
    "slack": "SlackDetector",
    "square_oauth": "SquareOAuthDetector",
    "stripe": "StripeDetector",
    "telegram_token": "TelegramBotTokenDetector",
    "twilio": "TwilioKeyDetector",
}
"""Module of detect-secrets -> its class. Plugins that guess by words or by entropy find mostly prose in chats."""
_NO_LOOK: Final = re.compile(r"\(\?[<!=][^)]*\)")
_LETTERS: Final = {letter: str(ord(letter) - 55) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that should not be in training data."""

    kind: str
    shown: str
    """Form of the text: letters and digits are masked."""


class PersonalFinder:
    """Finds secrets and personal data; built once for a process."""

    @cached_property
    def _detectors(self) -> list[Any]:
        from importlib import import_module

        return [getattr(import_module(f"detect_secrets.plugins.{module}"), name)() for module, name in _PLUGINS.items()]

    @cached_property
    def _further(self) -> Mapping[str, re.Pattern[str]]:
        return {kind: re.compile(pattern) for kind, pattern in FURTHER_SECRETS.items()}

    @cached_property
    def _personal(self) -> Mapping[str, re.Pattern[str]]:
        return {kind: re.compile(pattern) for kind, pattern in PERSONAL.items()}

    @cached_property
    def _filter(self) -> tuple[Any, list[Any]]:
        """Return the automaton, and for each of its patterns what looks closely: a plugin, or the name of a kind."""
        import re2

        automaton, owners = re2.Set.SearchSet(), []
        for plugin in self._detectors:
            for pattern in plugin.denylist:
                # Without its look-aheads the pattern finds at least as much; a large count is written as an open one.
                plain = re.sub(r"\{(\d+),\d{4,}\}", r"{\1,}", _NO_LOOK.sub("", pattern.pattern))
                automaton.Add(("(?i)" if pattern.flags & re.IGNORECASE else "") + plain)
                owners.append(plugin)
        for kind, text in {**FURTHER_SECRETS, **PERSONAL}.items():
            automaton.Add(text)
            owners.append(kind)
        automaton.Compile()
        return automaton, owners

    def find(self, text: str) -> list[Hit]:
        """Return the hits in *text*, each kind once."""
        automaton, owners = self._filter
        # Patterns are ASCII, and so are the values: the automaton's indices are of patterns, not of places.
        asked = {id(owners[at]): owners[at] for at in automaton.Match(text) or ()}
        found: dict[str, Hit] = {}
        for owner in asked.values():
            for hit in self._looked(owner, text):
                found.setdefault(hit.kind, hit)
        return list(found.values())

    def _looked(self, owner: Any, text: str) -> Iterator[Hit]:
        if not isinstance(owner, str):
            yield from (Hit(owner.secret_type, masked(secret)) for secret in owner.analyze_string(text) if secret)
        elif owner in self._further:
            yield from (Hit(owner, masked(match[0])) for match in self._further[owner].finditer(text))
        else:
            pattern, is_meant = self._personal[owner], _MEANT[owner]
            yield from (Hit(owner, masked(match[0])) for match in pattern.finditer(text) if is_meant(match[0]))


def masked(value: str) -> str:
    """Return the form of a value: its first two characters, and the rest with letters and digits hidden."""
    hidden = "".join("*" if letter.isalnum() else letter for letter in value[2:40])
    return value[:2] + hidden


def is_card(text: str) -> bool:
    """Return whether the digits are those of a payment card: known first digits and Luhn's check digit."""
    digits = [int(letter) for letter in text if letter.isdigit()]
    if len(digits) not in range(13, 20) or digits[0] not in (2, 3, 4, 5, 6) or len(set(digits)) == 1:
        return False
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def is_iban(text: str) -> bool:
    """Return whether the check digits of the IBAN are right (ISO 13616: the number modulo 97 is 1)."""
    code = text.replace(" ", "")
    for end in range(min(len(code), 34), 14, -1):  # words in capitals may follow it
        number = "".join(_LETTERS.get(letter, letter) for letter in code[4:end] + code[:4])
        if int(number) % 97 == 1:
            return True
    return False


def is_phone(text: str) -> bool:
    """Return whether there are as many digits as phone numbers have."""
    return 8 <= sum(letter.isdigit() for letter in text) <= 15


def is_address(text: str) -> bool:
    """Return whether an e-mail address may be somebody's."""
    return not text.lower().endswith(HARMLESS_DOMAINS)


def is_social_security(text: str) -> bool:
    """Return whether the US administration could have given the number."""
    area, group, serial = text.split("-")
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


_MEANT: Final = {
    "email address": is_address,
    "card number": is_card,
    "IBAN": is_iban,
    "phone number": is_phone,
    "social security number": is_social_security,
}
