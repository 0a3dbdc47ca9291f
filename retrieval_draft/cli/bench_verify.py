"""`retrieval-draft bench verify`."""

import click

from retrieval_draft.cli.output import out, print_json, print_table, progress

TEMPERATURE_MIN = 0.01


@click.command()
@click.option("--model", metavar="PATH_OR_ID", help="A folder, or a hub id.  [default: the demo's]")
@click.option(
    "--temperatures",
    default="0.6,0.8,1.0",
    show_default=True,
    metavar="NUMBERS",
    help="To sample at.",
)
@click.option("--prompts", default=8, show_default=True, help="Of the demo's.")
@click.option("--samples", default=4, show_default=True, help="Outputs of every prompt.")
@click.option("--tokens-max", default=100, show_default=True, help="Tokens per output.")
@click.option("--nodes-max", default=80, show_default=True, help="Nodes per tree.")
@click.option("--json", "as_json", is_flag=True, help="Data as JSON.")
def verify(
    model: str | None,
    temperatures: str,
    prompts: int,
    samples: int,
    tokens_max: int,
    nodes_max: int,
    as_json: bool,
) -> None:
    """Drawn drafts against the likeliest ones: `stand` verified by `recursive` and by `match`.

    Both rules decode the same prompts from a fresh store; MAT and accepted are per step.

    \b
    Examples:
      retrieval-draft bench verify
      retrieval-draft bench verify --temperatures 0.6 --samples 16
    """
    from retrieval_draft.cli.worker import open_model
    from retrieval_draft.errors import InvalidInput
    from retrieval_draft.gpu.demo.prompts import shipped
    from retrieval_draft.gpu.rules_bench import compared
    from retrieval_draft.gpu.tokenizer import load_tokenizer
    from retrieval_draft.gpu.verify import RULES
    from retrieval_draft.tree import int32s

    try:
        asked = [float(text) for text in temperatures.split(",")]
    except ValueError:
        asked = []
    if not asked or min(asked) < TEMPERATURE_MIN:
        limit = f"numbers from {TEMPERATURE_MIN}, separated by commas"
        raise InvalidInput("--temperatures", temperatures, limit)
    target = open_model(model, model is None, "float32", "cpu", 1)
    tokenizer = load_tokenizer(target.name)
    if tokenizer is None:
        raise InvalidInput("--model", target.name, "a model with a tokenizer")
    texts = [int32s(tokenizer.encode(text).ids) for text in shipped()[:prompts]]
    with progress() as bar:
        task = bar.add_task("decoding", total=len(asked) * len(RULES))
        found = compared(
            target, texts, asked, samples, tokens_max, nodes_max, lambda: bar.advance(task)
        )
    if as_json:
        print_json(found)
        return
    likeliest = {one.temperature: one.accepted for one in found if one.rule == "match"}
    print_table(
        f"stand, {nodes_max} nodes, {len(texts)} prompts x {samples}",
        ("temperature", "rule", "tokens", "MAT", "drafted", "accepted", "ratio"),
        [
            (
                f"{one.temperature:g}",
                one.rule,
                str(one.tokens),
                f"{one.mat:.3f}",
                f"{one.drafted:.1f}",
                f"{one.accepted:.3f}",
                f"{one.accepted / likeliest[one.temperature]:.3f}",
            )
            for one in found
        ],
        out(),
    )
