"""A model's chat template: messages into the text that the model is prompted with."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval_draft.errors import FailedPrecondition, InvalidInput
from retrieval_draft.tokenizer import DEMO, demo_folder

if TYPE_CHECKING:
    from jinja2 import Template

CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


class ChatTemplate:
    """A Jinja template in a sandbox, with what transformers gives templates to work with."""

    def __init__(self, source: str, special: Mapping[str, str]) -> None:
        """`special`: texts of bos_token and the like. Raises FailedPrecondition for a broken template."""
        from jinja2 import TemplateError

        try:
            self._template = _compiled(source)
        except TemplateError as error:
            raise FailedPrecondition(f"the chat template is no Jinja template: {error}") from error
        self._special = dict(special)

    @classmethod
    def of(cls, tokenizer: str | Path) -> "ChatTemplate | None":
        """That of a model's folder, or None if it has none: chat_template.jinja, or in its configuration."""
        path = demo_folder() if str(tokenizer) == DEMO else Path(tokenizer)
        folder = path if path.is_dir() else path.parent
        config = _config(folder / CONFIG)
        file = folder / TEMPLATE
        source = file.read_text(encoding="utf-8") if file.is_file() else _named(config)
        if source is None:
            return None
        special = {name: text for name in _SPECIAL if (text := _content(config.get(name)))}
        return cls(source, special)

    def render(
        self, messages: Sequence[Mapping[str, object]], *, add_generation_prompt: bool = False
    ) -> str:
        """The conversation as text, special tokens included. InvalidInput if the template refuses it."""
        from jinja2 import TemplateError

        try:
            return self._template.render(
                messages=messages, add_generation_prompt=add_generation_prompt, **self._special
            )
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            limit = "messages that the chat template takes"
            raise InvalidInput("messages", json.dumps(messages)[:200], limit, str(error)) from error


def _compiled(source: str) -> "Template":
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def to_json(value: object, indent: int | None = None, ensure_ascii: bool = False) -> str:
        return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
    return environment.from_string(source)


def _config(file: Path) -> dict[str, object]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise FailedPrecondition(f"{file} cannot be read: {error}") from error
    return found if isinstance(found, dict) else {}


def _named(config: Mapping[str, object]) -> str | None:
    """A configuration has one template, or several with names, of which `default` is ours."""
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {one.get("name"): one.get("template") for one in template if isinstance(one, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _content(token: object) -> str:
    """A special token's text: configurations have it bare, or with its properties."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else ""
