"""Chat turns become the text that transformers would make of them."""

import json
from pathlib import Path

import pytest

from retrieval_draft.chat_template import ChatTemplate
from retrieval_draft.errors import FailedPrecondition, InvalidInput
from retrieval_draft.tokenizer import demo_folder
from retrieval_draft.warming.documents import Text, Unreadable
from retrieval_draft.warming.fields import Fields

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Two\nlines <b> & ü"},
    {"role": "assistant", "content": "x = 1\n"},
    {"role": "user", "content": "more"},
]
RICH = """{{ bos_token }}{% for m in messages %}
    {% if m.role == 'system' %}{% continue %}{% endif %}
    {% if loop.index0 > 9 %}{{ raise_exception('too long') }}{% endif %}
<|{{ m['role'] }}|>{{ m['content'] | trim }} {{ m | tojson }}{{ eos_token }}
{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}
"""


@pytest.fixture
def rich(tmp_path: Path) -> Path:
    """A model's folder with a template in its configuration and special tokens of both forms."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": RICH,
        "bos_token": "<|end|>",
        "eos_token": {"content": "<|end|>", "__type": "AddedToken"},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_bytes((demo_folder() / "tokenizer.json").read_bytes())
    return tmp_path


@pytest.mark.parametrize("which", ["demo", "rich"])
def test_it_renders_as_transformers_does(which: str, rich: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = rich if which == "rich" else demo_folder()
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = ChatTemplate.of(folder)
    assert ours is not None
    for prompt in (False, True):
        rendered = ours.render(CHAT, add_generation_prompt=prompt)
        assert rendered == theirs.apply_chat_template(
            CHAT, tokenize=False, add_generation_prompt=prompt
        )


def test_the_demo_models_template_makes_comments_of_all_but_code() -> None:
    template = ChatTemplate.of("demo")
    assert template is not None
    text = template.render(CHAT)
    assert text == "# Be brief.\n# Two\n# lines <b> & ü\nx = 1\n<|end|># more\n"


def test_records_with_messages_are_rendered(rich: Path) -> None:
    fields = Fields(template=ChatTemplate.of("demo"))
    sharegpt = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "y"}]
    expected = Text("n", "# hi\ny<|end|>")
    assert fields.document("n", {"conversations": sharegpt}) == expected
    turns = Fields(("q", "a"), ChatTemplate.of("demo"), as_turns=True)
    assert turns.document("n", {"q": "hi", "a": "y"}) == expected
    with pytest.raises(Unreadable, match="roles are"):
        fields.document("n", {"messages": [{"role": "tool", "content": "x"}]})
    with pytest.raises(Unreadable, match="not all text"):
        turns.document("n", {"q": "hi", "a": 5})


def test_a_folder_without_a_template_has_none_and_a_broken_one_is_named(tmp_path: Path) -> None:
    assert ChatTemplate.of(tmp_path) is None
    (tmp_path / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(FailedPrecondition, match="no Jinja template"):
        ChatTemplate.of(tmp_path)


def test_several_templates_in_a_configuration_and_one_in_a_file(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "named"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    one = ChatTemplate.of(tmp_path / "tokenizer.json")
    assert one is not None
    assert one.render([]) == "named"
    (tmp_path / "chat_template.jinja").write_text("file")
    other = ChatTemplate.of(tmp_path)
    assert other is not None
    assert other.render([]) == "file"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[9]['role']['x'] }}",
        "{{ 1 + 'a' }}",
    ],
)
def test_a_template_can_do_nothing_but_render(source: str) -> None:
    with pytest.raises(InvalidInput, match="messages"):
        ChatTemplate(source, {}).render(CHAT)
